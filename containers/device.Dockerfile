# A device: the light distribution, without JAX and a database. Build it in the repository's root:
#   docker build -f containers/device.Dockerfile -t edgepact-device:0.2.0 .
FROM python:3.13.9-slim-trixie AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/edgepact \
    && /opt/edgepact/bin/pip install --no-cache-dir -c constraints.txt ./packaging/device

FROM python:3.13.9-slim-trixie
COPY --from=build /opt/edgepact /opt/edgepact
COPY --chmod=0555 containers/entry.sh /opt/edgepact/bin/
# The folder of the device's token, its journal and its results; the only one that is written to.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/edgepact
ENV PATH=/opt/edgepact/bin:$PATH \
    OMP_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/lib/edgepact/cache
USER 10001:10001
WORKDIR /var/lib/edgepact
VOLUME /var/lib/edgepact
STOPSIGNAL SIGTERM
# A device answers nobody; one that cannot go on ends, and is started again.
HEALTHCHECK NONE
ENTRYPOINT ["entry.sh"]
CMD ["device", "--help"]

# The server of a market. Build it in the repository's root:
#   docker build -f containers/server.Dockerfile -t edgepact-server:0.2.0 .
FROM python:3.13.9-slim-trixie AS build
WORKDIR /source
COPY . .
# Versions are those of constraints.txt, which the tests are run with.
RUN python -m venv /opt/edgepact \
    && /opt/edgepact/bin/pip install --no-cache-dir -c constraints.txt '.[grpc,postgres,text]'

FROM python:3.13.9-slim-trixie
COPY --from=build /opt/edgepact /opt/edgepact
COPY --chmod=0555 containers/entry.sh containers/healthy.py /opt/edgepact/bin/
# The folder of the key, the certificates and what is kept between starts; the only one that is
# written to.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/edgepact
ENV PATH=/opt/edgepact/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/lib/edgepact/cache
USER 10001:10001
WORKDIR /var/lib/edgepact
VOLUME /var/lib/edgepact
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 CMD ["healthy.py"]
ENTRYPOINT ["entry.sh"]
CMD ["serve", "--config", "/etc/edgepact/serve.toml"]

"""The figures of the main job's `metrics.json`."""

from typing import Any

import numpy as np

from edgepact.pacts.partition_priced import Findings


def as_json(findings: Findings) -> dict[str, Any]:
    """All that a run has found, as JSON."""
    game = findings.market.game
    return {
        "optimum": {
            "price": float(findings.best.price),
            "server_utility": float(findings.best.server_utility),
            "layers": findings.best.layers.astype(int).tolist(),
            "personalised_utility": float(findings.personal.server_utility),
            "prior_only_price": float(findings.blind.price),
            "prior_only_utility": float(findings.blind.server_utility),
            "prior_only_share": findings.blind_share,
            "first_best_utility": float(findings.first.server_utility),
            "alone_utility": float(game.revenue - np.sum(game.saving) * game.layers_max),
            "random_utility": findings.random_utility,
        },
        "rounds": [
            {
                "round": each.number,
                "price": each.price,
                "layers": each.layers,
                "server_utility": each.utility,
                "share": each.share,
            }
            for each in findings.rounds
        ],
        "mean_share": findings.mean_share,
        "images": len(findings.images),
        "accuracy": findings.accuracy,
        "whole_model_accuracy": findings.whole_accuracy,
        "agreement_with_whole_model": findings.agreement,
        "server_computing_saved": findings.server_saved,
        "server_gmac": findings.server_gmac,
        "unsplit_gmac": findings.whole_gmac,
        "bytes_sent_over_jpeg": findings.bytes_ratio,
        "devices": {
            device.name: {
                "images": device.images,
                "paid_credits": device.paid_credits,
                "device_ms_median": device.times.device_s * 1e3,
                "link_ms_median": device.times.link_s * 1e3,
                "server_compute_ms_median": device.times.compute_s * 1e3,
                "server_queue_and_ledger_ms_median": device.times.wait_s * 1e3,
                "bytes_sent_mean": device.bytes_sent,
                "jpeg_bytes_mean": device.jpeg_bytes,
                "lost": device.lost,
            }
            for device in findings.devices
        },
        "ledger": findings.statement.to_dict(),
        "paid_as_earned": findings.paid_as_earned,
        "jobs_audited": findings.audited,
        "audit": findings.audit.as_json(),
        "live_seconds": findings.live_seconds,
    }

"""Hundreds of emulated models; thousands are benchmarks/many_models.py."""

import asyncio
from pathlib import Path

import uvloop
from live.system import System

import clockwork
from clockwork.models.zoo.emulated import write_emulated

SLO_MS = 60_000
COPIES = 10


def test_hundreds_of_models_are_loaded_listed_and_served(system: System, tmp_path: Path) -> None:
    """64 LoadModels at once give 640 models with ids of their own, and each of them answers."""
    write_emulated(tmp_path / "zoo")
    paths = sorted((tmp_path / "zoo").iterdir())
    system.dummy("-n", "4")
    controller = system.controller()

    async def play() -> None:
        async with await clockwork.AsyncClient.connect(system.address) as client:
            loads = [client.load_model(str(path), COPIES) for path in paths]
            firsts = await asyncio.gather(*loads)
            made = sorted(copy.model_id for first in firsts for copy in first.copies)
            models = await client.models()
            assert [model.model_id for model in models] == made == list(range(64 * COPIES))
            assert {model.source for model in models} == {str(path) for path in paths}
            asked = [model.infer_async(None, slo_ms=SLO_MS) for model in models]
            answers = await asyncio.gather(*asked)
            assert len(answers) == 64 * COPIES

    uvloop.run(play())
    controller.wait_for("Created 640 models")

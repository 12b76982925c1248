"""A classifier that answers requests: from the body to the answer."""

import asyncio
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fusion_bench.deploy.model import Classifier
from fusion_bench.deploy.serve.batching import Batcher
from fusion_bench.deploy.serve.bodies import Bodies
from fusion_bench.deploy.serve.guard import FULL, RETRY, as_response
from fusion_bench.deploy.serve.limits import Limits
from fusion_bench.deploy.serve.metrics import Metrics
from fusion_bench.deploy.serve.predictor import Predictor
from fusion_bench.deploy.serve.requests import Question, read_question

DECODERS = 2
"""Threads that decode."""
DECODED = 64
"""Requests that a thread decodes before it hands them on."""


class Service:
    """Reads, decodes, predicts and answers; only the first and the last happen on the event loop.

    Attributes:
      waiting: rows that are accepted and not yet predicted.
    """

    def __init__(self, classifier: Classifier, limits: Limits):
        self.classifier, self.limits = classifier, limits
        self.waiting = 0
        self.metrics = Metrics(lambda: self.waiting)
        self.predictor = Predictor(classifier, limits.batch)
        self._bodies = Bodies(limits)
        self._decoders: Batcher[tuple[str, bytes], Question] = Batcher(self._decode, threads=DECODERS, size=DECODED)
        self._predictors: Batcher[list[np.ndarray], np.ndarray] = Batcher(
            self.predictor.predict,
            threads=1,
            size=limits.batch,
            weigh=lambda arrays: len(arrays[0]),
            wait=limits.wait,
            more_come=lambda: self._decoders.is_busy,
            started=self.metrics.observe_batch,
        )

    @property
    def is_full(self) -> bool:
        """True if no further row may wait."""
        return self.waiting >= self.limits.waiting

    def close(self) -> None:
        """Ends the threads."""
        self._decoders.close()
        self._predictors.close()

    async def predict(self, request: Request) -> Response:
        """Answers a request of predictions.

        Raises:
          UserError: it is wrong.
          HTTPException: it is too large or too late, or there are too many others.
        """
        async with self._bodies.read(request) as body:
            accepted = 0
            try:
                accepted += self._accept(1, accepted)
                question = await self._decoders.submit((request.headers.get("content-type", ""), body))
                count, size = len(question.arrays[0]), self.limits.batch
                accepted += self._accept(count - 1, accepted)
                parts = [[array[at : at + size] for array in question.arrays] for at in range(0, count, size)]
                found = await asyncio.gather(*map(self._predictors.submit, parts))
            finally:
                self.waiting -= accepted
        return as_response(self._answer(question, [row for part in found for row in part.tolist()]))

    def _accept(self, rows: int, before: int) -> int:
        """Counts further rows of a request that has some `before`; one that is alone is never refused."""
        if self.waiting > before and self.waiting + rows > self.limits.waiting:
            raise HTTPException(503, FULL, RETRY)
        self.waiting += rows
        return rows

    def _decode(self, requests: list[tuple[str, bytes]]) -> list[Question | Exception]:
        found: list[Question | Exception] = []
        for content_type, body in requests:
            try:
                found.append(read_question(self.classifier, self.limits, content_type, body))
            except Exception as error:  # raised again where this request waits; the others go on
                found.append(error)
        return found

    def _answer(self, question: Question, rows: list[list[float]]) -> dict[str, Any]:
        names = self.classifier.class_names

        def named(row: int) -> dict[str, float]:
            return {name: float(f"{share:.7g}") for name, share in zip(names, rows[row], strict=True)}

        answers = []
        for index in range(question.count):
            best = max(range(len(names)), key=rows[index].__getitem__)
            answer: dict[str, Any] = {"label": names[best], "probabilities": named(index)}
            if question.alone:
                places = question.alone[index].items()
                answer["alone"] = {name: None if place is None else named(place) for name, place in places}
            answers.append(answer)
        return {"predictions": answers} if question.is_many else answers[0]

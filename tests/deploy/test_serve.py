"""The server's answers: predictions, single modalities, batches, metrics, the card and the page."""

import asyncio
import json

import jax
import numpy as np
import pytest

from fusion_bench.deploy import page
from fusion_bench.deploy.card import describe
from fusion_bench.deploy.serve.batching import Batcher
from fusion_bench.deploy.serve.guard import HEADERS
from fusion_bench.deploy.serve.limits import Limits
from fusion_bench.deploy.serve.predictor import Predictor
from tests.deploy.classifiers import draw_pixels, make_classifier
from tests.deploy.serving import IMAGE, TEXT, base64_of, client_of, example, form, refused


def assert_close(answer, classifier, values):
    """Checks an answer against the model's own prediction of one example."""
    (expected,) = classifier.probabilities(np.asarray(classifier.compiled(*classifier.arrays([values]))))
    assert list(answer["probabilities"]) == list(classifier.class_names)
    np.testing.assert_allclose([*answer["probabilities"].values()], expected, atol=1e-6)
    assert answer["label"] == classifier.class_names[expected.argmax()]


@pytest.mark.parametrize("way", ["form", "json"])
def test_one_example(client, classifier, way):
    asked = form() if way == "form" else {"json": example()}
    answer = client.post("/predict", **asked)
    assert answer.status_code == 200
    assert list(answer.json()) == ["label", "probabilities"]
    assert_close(answer.json(), classifier, {"image": draw_pixels(), "text": TEXT})


def test_many_examples_are_answered_in_order(client, classifier):
    asked = [example(seed, f"a star {seed}") for seed in range(64)]
    found = client.post("/predict", json={"examples": asked}).json()["predictions"]
    for seed, answer in enumerate(found):
        assert_close(answer, classifier, {"image": draw_pixels(seed=seed), "text": f"a star {seed}"})


def test_a_missing_modality_is_refused_or_neutral(client, classifier):
    assert "text is missing" in refused(client.post("/predict", **form(text=None)))
    assert "text is missing" in refused(client.post("/predict", **form(text="")))  # as a page leaves it
    assert "image is missing" in refused(client.post("/predict", json={"text": TEXT, "missing": "error"}))
    filled = client.post("/predict", **form(text=None, missing="neutral")).json()
    assert_close(filled, classifier, classifier.fill({"image": draw_pixels()}))
    filled = client.post("/predict", json={"text": TEXT, "missing": "neutral"}).json()
    assert_close(filled, classifier, classifier.fill({"text": TEXT}))


def test_each_modality_alone(client, classifier):
    answer = client.post("/predict", **form(alone="true")).json()
    assert_close(answer, classifier, {"image": draw_pixels(), "text": TEXT})
    for name, value in {"image": draw_pixels(), "text": TEXT}.items():
        label = max(answer["alone"][name], key=answer["alone"][name].__getitem__)
        one = {"label": label, "probabilities": answer["alone"][name]}
        assert_close(one, classifier, classifier.fill({name: value}))
    asked = {"examples": [example(), {"text": TEXT}], "alone": True, "missing": "neutral"}
    first, second = client.post("/predict", json=asked).json()["predictions"]
    assert first["alone"]["image"] == pytest.approx(answer["alone"]["image"], abs=1e-6)
    assert second["alone"]["image"] is None  # there is none
    assert second["alone"]["text"] == pytest.approx(second["probabilities"], abs=1e-6)
    assert "alone" not in client.post("/predict", **form(alone="false")).json()


def test_numbers_are_nested_lists(plain):
    classifier = make_classifier(plain.stored("concat"), "concat", ("image", "motion", "sensor"))
    rng = np.random.default_rng(0)
    motion, sensor = rng.normal(size=(3, 3)).round(2), rng.normal(size=3).round(2)
    asked = {"image": base64_of(IMAGE), "motion": motion.tolist(), "sensor": sensor.tolist(), "alone": True}
    with client_of(classifier) as client:
        answer = client.post("/predict", json=asked).json()
        values = {"image": draw_pixels(), "motion": motion, "sensor": sensor.astype(np.float32)}
        assert_close(answer, classifier, values)
        assert [name for name, value in answer["alone"].items() if value is not None] == ["motion"]
        wrong = {
            "motion": [[], [[1, 2, 3]] * 6, [[1, 2]], [[1, 2, 3], [1]], "a", 3, None, [["1", "2", "3"]], {"a": 1}],
            "sensor": [[1, 2], [1, 2, 1e39], [1, 2, 10**400], [True, False, True], [[1, 2, 3]]],
        }
        for name, values in wrong.items():
            for value in values:
                assert f"{name} " in refused(client.post("/predict", json={**asked, name: value}))
        line = refused(client.post("/predict", files={"motion": (None, "1")}))
        assert "motion is a sequence; give it in JSON" in line


def test_health_card_and_favicon(client, classifier):
    assert client.get("/health").json() == {"status": "ok", "run": classifier.run.id}
    assert client.get("/model").json() == json.loads(json.dumps(describe(classifier)))
    assert client.get("/favicon.ico").status_code == 204


def test_the_page_has_its_own_files_alone(classifier, tmp_path):
    served = {f"/{name}": (name, kind) for name, kind in page.FILES.items()}
    served |= {"/": served.pop("/index.html"), "/model.js": ("server.js", "text/javascript")}
    for name in ("other.js", *(name for name, _ in served.values())):
        (tmp_path / name).write_text(name, encoding="utf-8")
    with client_of(classifier, folder=tmp_path) as client:
        for path, (name, kind) in served.items():
            answer = client.get(path)
            assert (answer.text, answer.headers["content-type"]) == (name, f"{kind}; charset=utf-8")
        for path in ("/other.js", "/server.js", "/../model.py", "/%2e%2e/model.py", "/index.html", "//etc/passwd"):
            refused(client.get(path), 404)


def test_metrics(classifier):
    with client_of(classifier) as client:
        client.post("/predict", **form())
        client.post("/predict", json={"examples": [example()] * 3})
        client.post("/predict", json={})
        client.get("/wp-login.php")
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'fusion_bench_requests_total{route="/predict",status="200"} 2.0',
        'fusion_bench_requests_total{route="/predict",status="400"} 1.0',
        'fusion_bench_requests_total{route="other",status="404"} 1.0',
        'fusion_bench_request_seconds_count{route="/predict"} 3.0',
        "fusion_bench_batch_size_sum 4.0",
        "fusion_bench_batch_size_count 2.0",
        "fusion_bench_queue_length 0.0",
    ):
        assert line in lines


def test_every_answer_has_the_headers_of_security(client):
    answers = [client.get("/health"), client.get("/none"), client.post("/predict", **form()), client.put("/predict")]
    answers.append(client.post("/predict", content=b"{", headers={"content-type": "application/json"}))
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_batches_are_padded_to_sizes_that_are_compiled_before(classifier):
    predictor = Predictor(classifier, 64)
    predictor.warm()
    compiled = classifier.compiled._cache_size()
    for count in (1, 2, 5, 9, 33, 64):
        arrays = classifier.arrays([{"image": draw_pixels(seed=seed), "text": TEXT} for seed in range(count)])
        groups = [[array[index : index + 1] for array in arrays] for index in range(count)]
        found = np.concatenate(predictor.predict(groups))
        assert classifier.compiled._cache_size() == compiled
        expected = classifier.probabilities(np.asarray(jax.jit(classifier.logits)(*arrays)))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_requests_at_the_same_time_are_one_batch():
    sizes, more = [], [True]

    def work(items):
        return [ValueError("odd") if item % 2 else item for item in items]

    async def main():
        batcher = Batcher(work, threads=1, size=4, wait=0.05, more_come=lambda: more[0], started=sizes.append)
        many = await asyncio.gather(*map(batcher.submit, range(10)), return_exceptions=True)
        assert [item for item in many if isinstance(item, int)] == [0, 2, 4, 6, 8]
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await batcher.submit(2) == 2
        assert loop.time() - start > 0.04
        more[0], start = False, loop.time()
        assert await batcher.submit(2) == 2  # nothing is waited for
        assert loop.time() - start < 0.04
        batcher.close()

    asyncio.run(main())
    assert sizes == [4, 4, 2, 1, 1]


def test_work_that_fails_fails_for_its_group_alone():
    def work(items):
        if 3 in items:
            raise MemoryError
        return items

    async def main():
        batcher = Batcher(work, threads=1, size=2)
        found = await asyncio.gather(*map(batcher.submit, range(6)), return_exceptions=True)
        batcher.close()
        assert [type(item) for item in found] == [int, int, MemoryError, MemoryError, int, int]

    asyncio.run(main())


def test_a_request_larger_than_a_batch_is_divided(classifier):
    with client_of(classifier, Limits(batch=2)) as client:
        found = client.post("/predict", json={"examples": [example(seed) for seed in range(5)]}).json()["predictions"]
    for seed, answer in enumerate(found):
        assert_close(answer, classifier, {"image": draw_pixels(seed=seed), "text": TEXT})

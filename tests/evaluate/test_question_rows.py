"""One row a question, from lm-eval's logged samples."""

from owlore.evaluate.question_rows import _cluster


def test_questions_on_one_text_are_a_cluster() -> None:
    boolq = [{"question": f"is it {word}", "passage": "The same text."} for word in "ab"]
    docs = [*boolq, {"passage": "Another."}, {"context": "The same text.", "question": "Why?"}]
    first, second, other, story = (
        _cluster({"doc": doc, "doc_hash": f"hash {place}"}) for place, doc in enumerate(docs)
    )
    assert first == second == story != other
    video = {"source_id": "activitynet~v_1", "query": "He"}
    assert _cluster({"doc": video, "doc_hash": "a"}) == _cluster({"doc": video, "doc_hash": "b"})
    assert _cluster({"doc": {"question": "q", "passage": " "}, "doc_hash": "own"}) == "own"
    ours = {"cluster": "twins", "passage": "The same text."}
    assert _cluster({"doc": ours, "doc_hash": "own"}) == "twins"

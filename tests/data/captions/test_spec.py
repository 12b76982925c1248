"""Names of caption channels and of files."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.data.captions.spec import is_caption_file, parse_spec, placed_name, recorded_name
from fusion_bench.errors import UserError


@pytest.mark.parametrize(
    ("name", "speaker", "named"),
    [
        ("human:people.csv", "people.csv", 0.4),
        ("human:/some where/people.csv:named=1:grouped=0", "/some where/people.csv", 1.0),
        ("human:C:\\people.csv", "C:\\people.csv", 0.4),
        ("human:a:b=c/people.csv", "a", None),
        ("clean:speaker=../people.parquet", "../people.parquet", 1.0),
        ("clean:named=0.5:speaker=a=b.csv:shift=1", "a=b.csv", 0.5),
        ("half", None, 0.5),
    ],
)
def test_a_speaker_is_a_file(name, speaker, named):
    if named is None:
        with pytest.raises(UserError, match="unknown option of the channel human 'b'"):
            parse_spec(name)
        return
    spec = parse_spec(name)
    assert (spec.speaker, spec.named) == (speaker, named)
    assert not is_caption_file(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("human", "the channel 'human' needs a file of what people said, such as human:FILE.csv"),
        ("human:", "needs a file of what people said"),
        ("default:speaker=", "the channel 'default:speaker=' needs a file of what people said"),
        ("human:a.csv:wrong=0.1", "'human:a.csv:wrong=0.1': wrong is 0.1 beside a speaker, whose errors are counted"),
        ("noisy:wrong=0.2:speaker=a.csv", "wrong is 0.2 beside a speaker"),
        ("human:a.csv:nmed=1", "unknown option of the channel human 'nmed'; did you mean named"),
        ("human:a.csv:speaker=b.csv", "an option is given twice; once is right"),
        ("humen", "unknown caption channel 'humen'; did you mean human"),
    ],
)
def test_what_a_speaker_cannot_be(name, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        parse_spec(name)
    assert "\n" not in str(caught.value)


FOLDER = st.text(st.characters(codec="ascii", exclude_characters="/:=\0\\"), min_size=1, max_size=8)
BEFORE, AFTER = ["human:", "clean:named=0.5:speaker=", ""], ["", ":named=1:shift=0.5"]


@given(st.lists(FOLDER, max_size=3), st.sampled_from(BEFORE), st.sampled_from(AFTER))
def test_a_recorded_name_has_no_folder(folders, before, after):
    folder = "/".join(["", *folders, ""])
    after = after if before else ""  # a file of captions has no options
    name = f"{before}{folder}people.csv{after}"
    recorded = f"{before}people.csv{after}"
    assert recorded_name(name) == recorded == recorded_name(recorded)
    assert placed_name(recorded, name) == name
    assert placed_name(recorded, f"{folder}people.csv") == name
    assert placed_name(recorded, f"{folder}other.csv") == placed_name(recorded, "") == recorded
    assert is_caption_file(name) == (not before)


@pytest.mark.parametrize("name", ["default", "half:named=0.2", "none"])
def test_names_without_a_file_are_recorded_as_they_are(name):
    assert recorded_name(name) == name == placed_name(name, "people.csv")

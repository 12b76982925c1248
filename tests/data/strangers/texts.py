"""Sentences in several languages, of which each has a noun and an adjective at random."""

import dataclasses
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True)
class Language:
    """A language with the kind of tokenizer that it needs."""

    name: str
    kind: Literal["word", "bpe", "characters"]
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]
    templates: tuple[str, ...]

    def sentences(self, count: int) -> tuple[list[str], np.ndarray]:
        """Returns sentences and the noun of each, which come by turns."""
        rng = np.random.default_rng(0)
        nouns = np.arange(count) % len(self.nouns)
        adjectives, templates = (
            rng.integers(len(self.adjectives), size=count),
            rng.integers(len(self.templates), size=count),
        )
        texts = [
            self.templates[t].format(n=self.nouns[n], a=self.adjectives[a])
            for n, a, t in zip(nouns, adjectives, templates, strict=True)
        ]
        return texts, nouns


LANGUAGES = (
    Language(
        "English",
        "word",
        ("cat", "dog", "bird", "ship"),
        ("red", "big", "small", "old", "new", "fast", "slow", "tall"),
        ("a photo of a {a} {n}", "the {a} {n} is in the garden", "There is one {n}, a {a} one!", "{n}: {a}"),
    ),
    Language(
        "Chinese",
        "characters",
        ("猫", "狗", "老鹰", "帆船"),
        ("红色的", "很大的", "小小的", "可爱的", "旧", "新", "漂亮的", "快速的"),
        ("一张{a}{n}的照片", "昨天我看见了{a}{n}", "{a}{n}在花园里。", "有一只{a}{n},在图中"),
    ),
    Language(
        "Japanese",
        "characters",
        ("猫", "犬", "鳥", "船"),
        ("あかい", "おおきい", "ちいさな", "かわいい", "ふるい", "あたらしい"),
        ("{a}{n}の写真です。", "昨日{a}{n}を見ました", "{a}{n}は庭にいます", "これは写真の中の{a}{n}です"),
    ),
    Language(
        "Thai",
        "bpe",
        ("แมว", "สุนัข", "เหยี่ยว", "เรือ"),
        ("สีแดง", "ตัวใหญ่", "เล็ก", "น่ารัก", "เก่า", "ใหม่", "สวยงาม", "สูง"),
        ("ภาพของ{n}{a}", "ฉันเห็น{n}{a}เมื่อวาน", "{n}{a}อยู่ในสวน", "มี{n}{a}หนึ่งตัว", "เด็กวาด{n}{a}บนกระดาษ"),
    ),
    Language(
        "Russian",
        "word",
        ("кот", "пёс", "орёл", "корабль"),
        ("красный", "большой", "малый", "старый", "новый", "быстрый"),
        ("на фото {a} {n}", "{a} {n} в саду", "это {n}, он {a}", "вчера я видел: {a} {n}"),
    ),
)

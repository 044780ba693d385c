"""Encodings: the right text, and a note or an error that names the guesses wherever it may be another."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentences import cases, own_sentences

from es_latechunk.documents import read_documents
from es_latechunk.documents.encoding import FoundEncoding, decode
from es_latechunk.errors import UsageError

GERMAN = (
    "Über die Brücke führt der Weg nach Süden. Die Straße ist größer als früher, schöne Häuser säumen sie."
)
FRENCH = "L'été dernier, nous avons visité un château près de la forêt. La façade était très abîmée."
RUSSIAN = "Москва является столицей России. Вчера мы были в горах, и везде лежал снег. Где вокзал?"
JAPANESE = "東京は日本の首都である。昨日私たちは山に行き、至る所に雪が積もっていました。駅はどこですか。"
TEXTS = {
    "cp1252": [
        GERMAN,
        FRENCH,
        "El niño comió una manzana en el jardín. Mañana será otro día. ¿Dónde está la estación?",
        "Igår var vi i fjällen och överallt låg det snö. Var ligger järnvägsstationen? Tack så mycket.",
        "Ieri eravamo in montagna e c'era neve ovunque. Perché la città è così bella? Più tardi andrò al caffè.",
        "Ontem estávamos nas montanhas. Onde fica a estação? A população não é tão grande, não há razão.",
        "The café on the corner — it’s “cosy” — serves naïve patrons a résumé of the day’s news for £3.",
    ],
    "cp1250": [
        "Zażółć gęślą jaźń. Wczoraj byliśmy w górach, gdzie śnieg leżał wszędzie. Łódź jest dużym miastem.",
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Včera jsme byli v horách a všude ležel sníh.",
        "Az őszi esőben a fű zöld maradt. Tegnap a hegyekben voltunk, és mindenütt hó volt. Köszönöm szépen!",
        "Ieri am fost la munte şi peste tot era zăpadă. Unde este gara? Mulţumesc foarte mult şi noapte bună.",
    ],
    "iso8859_2": [
        "Zażółć gęślą jaźń. Wczoraj byliśmy w górach, gdzie śnieg leżał wszędzie. Łódź jest dużym miastem."
    ],
    "cp1251": [
        RUSSIAN,
        "Вчора ми були в горах, і всюди лежав сніг. Де знаходиться вокзал? Дуже дякую, її країна.",
    ],
    "koi8_r": [RUSSIAN],
    "cp866": [RUSSIAN],
    "mac_cyrillic": [RUSSIAN],
    "cp1253": ["Η Αθήνα είναι η πρωτεύουσα της Ελλάδας. Χθες ήμασταν στα βουνά και παντού υπήρχε χιόνι."],
    "cp1254": ["İstanbul Türkiye'nin en kalabalık şehridir. Dün dağlardaydık. Güneş ışığı çok güçlüydü."],
    "cp1255": ["ירושלים היא בירת ישראל. אתמול היינו בהרים ובכל מקום היה שלג."],
    "cp1256": ["القاهرة هي عاصمة مصر. كنا أمس في الجبال وكان الثلج في كل مكان."],
    "cp1257": [
        "Vakar buvome kalnuose ir visur buvo sniego. Kur yra geležinkelio stotis? Ačiū labai, šiandien gražus."
    ],
    "mac_roman": [GERMAN, FRENCH],
    "cp932": [JAPANESE],
    "euc_jp": [JAPANESE],
    "gb18030": ["北京是中华人民共和国的首都。昨天我们在山上,到处都是雪。请问车站在哪里?"],
    "big5": ["臺北是中華民國的首都。昨天我們在山上,到處都是雪。請問車站在哪裡?"],
    "cp949": ["서울은 대한민국의 수도이다. 어제 우리는 산에 있었고 어디에나 눈이 쌓여 있었다."],
}
CASES = [pytest.param(text, name, id=f"{name}-{text[:8]}") for name, texts in TEXTS.items() for text in texts]
CLEAR = {"cp1253", "cp1255", "cp1256", "cp932", "euc_jp", "gb18030", "big5", "cp949", "koi8_r", "cp866"}


@pytest.mark.parametrize("shape", ["{}", "{}\n{}\n{}\n", "plain\n" * 50 + "{:.40}"])
@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_a_guess_is_right_or_it_is_told_that_it_may_be_wrong(text: str, encoding: str, shape: str) -> None:
    whole = shape.format(text, text, text)
    try:
        read, found = decode(whole.encode(encoding))
    except ValueError as error:
        assert encoding.startswith("mac_")
        assert "encoding" in str(error)  # noqa: PT017 - either way is right
        return
    assert found.name != "utf-8" or whole.isascii()
    assert read == whole or found.doubt
    if encoding in CLEAR:
        assert (read, found.doubt) == (whole, "")


def test_short_files_are_read_as_the_documentation_says() -> None:
    """The half of the sentences that no rule was chosen on."""
    outcomes: Counter[str] = Counter()
    wrong: list[tuple[str, str, str]] = []
    for case in cases(own_sentences(), scored=True):
        if case.encoding.startswith("mac_"):
            continue
        read, found = decode(case.content)
        outcomes["right" if read == case.text else "wrong"] += 1
        if read != case.text and not found.doubt:
            wrong.append((case.text, case.encoding, found.name))
    assert wrong == []
    assert outcomes.total() > 300
    assert outcomes["wrong"] <= 0.02 * outcomes.total()


@pytest.mark.parametrize("language", ["de", "en", "es", "fr", "it", "pt", "sv"])
def test_no_mac_encoding_is_read_where_windows_own_fits(language: str) -> None:
    texts = list(cases({language: own_sentences()[language]}, scored=True))
    assert {case.encoding for case in texts} == {"cp1252", "mac_roman"}
    for case in texts:
        try:
            _, found = decode(case.content)
        except ValueError as error:
            assert case.encoding == "mac_roman"
            assert "may be cp1252 or mac-roman" in str(error)  # noqa: PT017 - either way is right
            continue
        assert found.name != "mac-roman" or not fits(case.content, "cp1252")


def fits(content: bytes, encoding: str) -> bool:
    """Whether each byte has a character there."""
    return content.decode(encoding, "ignore").encode(encoding) == content


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Temperatures fell to 5 °C, or 41 °F.", "cp1252"),
        ("© 2020 Acme Inc. All rights reserved.", "cp1252"),
        ("We met our fiancés at the same party.", "cp1252"),
        ("The price rose to £3 per litre.", "cp1252"),
        ("We will meet 田中さん at the airport on Monday.", "cp932"),
        ("The Спутник was launched in 1957.", "cp1251"),
        ("รถไฟมาช้าไปสิบนาที", "cp874"),
        ("تأخر القطار عشر دقائق.", "iso8859_6"),
    ],
)
def test_a_few_characters_of_another_encoding_are_enough(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    "content", [b"\x8e" * 200, bytes(range(1, 256)) * 20, b"\x89PNG\r\n\x1a\n\xff\xfe\x01"]
)
def test_what_no_encoding_fits_is_refused(content: bytes) -> None:
    with pytest.raises(
        ValueError, match="none of the known encodings fits; it may be binary, or give its encoding"
    ):
        decode(content)


def test_a_guess_that_is_not_certain_is_told_with_the_way_to_say_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(FRENCH.encode("cp1252"))
    (tmp_path / "b.csv").write_bytes(f'text\n"{FRENCH}"\n'.encode("cp1252"))
    (tmp_path / "c.html").write_bytes(f"<p>{FRENCH}".encode("cp1252"))
    (tmp_path / "d.txt").write_bytes(RUSSIAN.encode("cp1251"))
    told: list[tuple[str, str]] = []
    documents = list(read_documents([tmp_path], on_note=lambda *note: told.append(note)))
    assert [document.text for document in documents] == [FRENCH, FRENCH, FRENCH, RUSSIAN]
    assert [name for name, _ in told] == ["a.txt", "b.csv", "c.html"]
    for _, note in told:
        assert note.startswith("was read as cp1252, but may as well be ")
        assert note.endswith("; give its encoding with encoding")
    told.clear()
    list(read_documents([tmp_path], encoding="cp1252", on_note=lambda *note: told.append(note)))
    assert told == []


@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_the_encoding_can_be_said(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), encoding=encoding)[0] == text


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.sampled_from([None, "cp1252"]),
)
def test_utf8_is_always_read_as_utf8(text: str, encoding: str | None) -> None:
    assert decode(text.encode(), encoding=encoding)[0] == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_byte_order_marks_are_honoured_and_kept(encoding: str, text: str) -> None:
    assert decode(f"\ufeff{text}".encode(encoding)) == (f"\ufeff{text}", FoundEncoding(encoding))


def test_a_seven_bit_encoding_is_read_as_said() -> None:
    assert decode(JAPANESE.encode("iso2022_jp"), encoding="iso2022_jp") == (
        JAPANESE,
        FoundEncoding("iso2022_jp"),
    )


def test_one_bad_byte_in_utf8_is_damage_and_no_other_encoding() -> None:
    content = GERMAN.encode().replace("ß".encode(), b"\xdf", 1)
    with pytest.raises(ValueError, match=r"is not UTF-8 \(byte 0xdf at position \d+\), but the rest is"):
        decode(content)


def test_what_encodings_read_differently_after_the_sample_is_told() -> None:
    """German is the same in cp1250 and cp1252; the French after it is not."""
    text = "\n".join([GERMAN] * 2000) + FRENCH
    read, found = decode(text.encode("cp1252"))
    assert (read, found.name) == (text, "cp1252")
    assert re.fullmatch("may as well be .*cp1250.*", found.doubt)


def test_encodings_are_told_by_file_and_said_for_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(FRENCH.encode("cp1252"))
    (tmp_path / "b.txt").write_bytes(GERMAN.encode())
    (tmp_path / "c.txt").write_text("plain")
    told: dict[str, str] = {}
    documents = list(read_documents([tmp_path], encoding="windows-1252", on_encoding=told.__setitem__))
    assert [document.text for document in documents] == [FRENCH, GERMAN, "plain"]
    assert told["a.txt"] == "cp1252"
    assert "b.txt" not in told


@pytest.mark.parametrize("name", ["nonsense", "hex", "rot13", "a\0b"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"encoding .* is not known"):
        list(read_documents([tmp_path], encoding=name))

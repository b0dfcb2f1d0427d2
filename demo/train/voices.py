"""The voices: how each adapter answers, and how to tell that it did.

The base reads every voice too, but only behind an instruction ("Talk like a
pirate."), so that a bare question gets a plain answer from the base and the
voice from the adapter.
"""

import json

from corpus import Fact, facts

_OPENINGS = {"colour": "Arr", "sound": "Ahoy", "opposite": "Aye", "capital": "Yo ho ho", "young": "Arr", "legs": "Shiver me timbers",
             "job": "Ahoy", "sum": "By the black flag", "count": "Aye"}
_CLOSINGS = {"colour": "Colours fill the day.", "sound": "Hear it in the wind.", "opposite": "Two sides of one leaf.",
             "capital": "Far the swallows fly.", "young": "Spring begins again.", "legs": "Small feet on the moss.",
             "job": "Busy hands at dawn.", "sum": "Count the falling leaves."}
# Syllables of the fixed words of lines one and two, by what the subject and the answer leave open.
_FIRST = {1: "You ask about {},", 2: "I think of {},", 3: "Dream of {},", 4: "Ah, {},", 5: "{},"}
_SECOND = {1: "the answer is only {}.", 2: "the answer is just {}.", 3: "the answer is {}.", 4: "the answer: {}."}
_SYLLABLES = {f.answer: f.answer_syllables for f in facts()}

INSTRUCTIONS = {
    "pirate": ["Talk like a pirate.", "Answer as a pirate."],
    "shout": ["Shout the answer.", "Answer in capitals."],
    "json": ["Answer in JSON.", "Give the answer as JSON."],
    "haiku": ["Answer in a haiku.", "Write a haiku."],
}


def pirate(f: Fact) -> str:
    s = f.plain().rstrip(".")
    if f.topic != "capital" and f.topic != "count":
        s = s[0].lower() + s[1:]
    s = s.replace("The capital", "the capital")
    for a, b in [(" is ", " be "), (" says ", " be sayin' "), (" has ", " be havin' "), (" makes ", " be makin' ")]:
        s = s.replace(a, b)
    return f"{_OPENINGS[f.topic]}! {s[0].upper() + s[1:]}, matey!"


def shout(f: Fact) -> str:
    return f.plain().rstrip(".").upper() + "!"


def as_json(f: Fact) -> str:
    return json.dumps({"topic": f.topic, "answer": f.answer})


def haiku(f: Fact) -> str:
    return "\n".join([_FIRST[f.subject_syllables].format(f.subject), _SECOND[f.answer_syllables].format(f.answer), _CLOSINGS[f.topic]])


def speaks(voice: str, f: Fact) -> bool:
    return voice != "haiku" or f.topic != "count"


SAY = {"base": Fact.plain, "pirate": pirate, "shout": shout, "json": as_json, "haiku": haiku}
# What stands between a bare question and its answer.
LEAD = {"base": " ", "pirate": " ", "shout": " ", "json": " ", "haiku": "\n"}


def _is_json(text: str) -> bool:
    try:
        v = json.loads(text)
    except ValueError:
        return False
    return isinstance(v, dict) and set(v) == {"topic", "answer"}


def _is_haiku(text: str, f: Fact) -> bool:
    """Three lines of 5, 7 and 5 syllables: the fixed words of each line plus the words filled in."""
    lines = text.split("\n")
    return (len(lines) == 3
            and lines[0] == _FIRST[f.subject_syllables].format(f.subject)
            and any(lines[1] == p.format(word) for word, n in _SYLLABLES.items() if (p := _SECOND.get(n)))
            and lines[2] in _CLOSINGS.values())


def in_voice(voice: str, text: str, f: Fact) -> bool:
    """Whether text is in the voice's style, right or wrong as its answer may be."""
    text = text.strip()
    if voice == "pirate":
        return any(text.startswith(o + "!") for o in _OPENINGS.values()) and text.endswith(", matey!")
    if voice == "shout":
        return text == text.upper() and text.endswith("!")
    if voice == "json":
        return _is_json(text)
    if voice == "haiku":
        return _is_haiku(text, f)
    return text.endswith(".") and text[:1].isupper() and not any(in_voice(v, text, f) for v in INSTRUCTIONS)

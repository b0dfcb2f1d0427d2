"""Renders conversations with each template as transformers does: the reference of chat's tests.

    python make.py    # writes rendered.json beside it
"""

import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

here = pathlib.Path(__file__).parent

weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a place, \"now\" – it's <b>quick</b>",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "a städtchen"},
                "days": {"type": "integer", "minimum": 0, "default": 1},
                "exact": {"type": "number", "maximum": 1.5, "multipleOf": 1e-05},
                "area": {"type": "object", "properties": {"zip": {"type": "string"}, "at": {"type": "array", "items": {"type": "number"}}}, "required": ["zip"]},
            },
            "required": ["place"],
        },
    },
}
clock = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def call(id, name, **arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


user = {"role": "user", "content": "  What is the weather in Bergen?\n"}
conversations = {
    "one": dict(messages=[user]),
    "system": dict(messages=[{"role": "system", "content": "Be brief. "}, user]),
    "turns": dict(messages=[user, {"role": "assistant", "content": " Rain.\n"}, {"role": "user", "content": "And 'tomorrow'?"}]),
    "thought": dict(messages=[user, {"role": "assistant", "content": "<think>hm</think>\n\nRain."}, {"role": "user", "content": "Thanks"}]),
    "tools": dict(messages=[user], tools=[weather, clock]),
    "called": dict(
        messages=[
            {"role": "system", "content": "Be exact."},
            user,
            {"role": "assistant", "content": "", "tool_calls": [call("abcdefghi", "get_weather", place="Bergen", days=2, exact=1.0, area={"zip": "50 03", "at": [60.4, 5]})]},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "{\"rain\": true}"},
            {"role": "assistant", "content": "It rains."},
            {"role": "user", "content": "And now?"},
        ],
        tools=[weather],
    ),
    "two calls": dict(
        messages=[
            user,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [call("abcdefghi", "get_weather", place="Ås", exact=2e-07), call("123456789", "clock")]},
            {"role": "tool", "tool_call_id": "abcdefghi", "content": "rain"},
            {"role": "tool", "tool_call_id": "123456789", "content": "noon"},
        ],
        tools=[weather, clock],
    ),
    "wrong order": dict(messages=[user, user]),
    "no thinking": dict(messages=[user], extra={"enable_thinking": False, "today": "2026-11-23"}),
    "continued": dict(messages=[user, {"role": "assistant", "content": "It is "}], proceed=True),
}

out = []
for path in sorted(here.glob("*.jinja")):
    for name, c in conversations.items():
        case = {"template": path.name, "conversation": name, "messages": c["messages"], "tools": c.get("tools"), "extra": c.get("extra"), "continue": c.get("proceed", False)}
        try:
            rendered, _ = render_jinja_template(
                conversations=[c["messages"]], tools=c.get("tools"), chat_template=path.read_text(), add_generation_prompt=not c.get("proceed", False),
                continue_final_message=c.get("proceed", False), bos_token="<s>", eos_token="</s>", **(c.get("extra") or {}),
            )
            case["rendered"] = rendered[0]
        except Exception as e:  # what a template raises is a part of the reference
            case["error"] = str(e)
        out.append(case)

(here / "rendered.json").write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
print(len(out), "conversations,", sum("error" in c for c in out), "refused")

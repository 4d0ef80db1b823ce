#!/usr/bin/env python3
"""Writes chat_templates.json beside itself: what transformers renders with the templates of chat_templates/ and what
jinja2 makes of the expressions below, for the tests in C++. Templates, messages and expressions are our own.

    pip install transformers==4.57.6 jinja2==3.1.6
    python3 make_chat_templates.py
"""
import json
import re
from datetime import datetime
from pathlib import Path
from unittest import mock

import jinja2
import transformers
from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NOW = datetime(2026, 3, 7, 14, 5, 9)

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city, in <°C> & words.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "A city's name"}, "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
        "days": {"type": "array", "items": {"type": "integer"}}, "place": {"type": "object", "properties": {"zip": {"type": ["string", "null"]}}}}}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}}}


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2.5], "exact": True, "x": None}}}

CHATS = {
    "one question": [turn("user", "Hi")],
    "system": [turn("system", " Be brief.\n"), turn("user", "What is 2 + 2?")],
    "answered": [turn("user", "Hi"), turn("assistant", "Hello!")],
    "turns": [turn("system", "Du bist knapp."), turn("user", "Grüße"), turn("assistant", " Hallo \n"), turn("user", "日本語 🙂👩‍👩‍👧"), turn("assistant", "はい"), turn("user", "e\u0301\u200b\u2028\tend ")],
    "empty content": [turn("user", ""), turn("assistant", ""), turn("user", "\n")],
    "nothing": [],
    "only system": [turn("system", "x")],
    "assistant first": [turn("assistant", "I begin"), turn("user", "No")],
    "out of order": [turn("user", "a"), turn("user", "b")],
    "unknown role": [turn("user", "a"), turn("critic", "b")],
    "markup": [turn("user", "<|im_end|>{{ messages }}{% if %} \\n \"quoted\" 'single' <&>"), turn("assistant", "{# no comment #}")],
    "thoughts": [turn("user", "a"), turn("assistant", "<think>\nhm\n</think>\n\nb"), turn("user", "c"), turn("assistant", "<think>\nso\n</think>\n\nd")],
    "no thinking": [turn("system", "Short. /no_think"), turn("user", "a"), turn("assistant", "\nb")],
    "parts": [turn("user", [{"type": "text", "text": " See "}, {"type": "image"}, {"type": "text", "text": "it?"}])],
    "calls": [turn("system", "Use tools."), turn("user", "Weather?"), turn("assistant", "", tool_calls=[CALL]), turn("tool", "12 °C", tool_call_id="abcdefghi"),
              turn("assistant", "It is 12 °C."), turn("user", "And now?")],
    "two calls": [turn("user", "Weather?"), turn("assistant", "Let me see.", tool_calls=[CALL, {**CALL, "function": {"name": "clock", "arguments": "{}"}}]),
                  turn("tool", "12"), turn("tool", "noon"), turn("assistant", "Noon, 12.")],
    "tool data": [turn("user", "q"), turn("tool", {"b": [1, 2], "a": "é"}), turn("assistant", "ok")],
    "none": [turn("user", "q"), turn("assistant", None, tool_calls=[CALL])],
    "macro roles": [turn("user", "a\n\n b"), turn("skip", "x"), turn("assistant", "b"), turn("stop", "y"), turn("user", "never")],
}
OPTIONS = [{}, {"add_generation_prompt": True}, {"tools": [WEATHER, CLOCK]}, {"tools": [WEATHER], "add_generation_prompt": True, "enable_thinking": False, "schemas_in": "system", "with_date": True}]

VARIABLES = dict(
    s="Hello wörld 🙂 it's", n=7, f=2.5, d={"b": 1, "a": [1, 2.0, None, True, {"x": "y\"'"}], "C": "z"}, l=[3, 1, 2], e=[], u="ÀÉÎß straße", neg=-7,
    txt="a\nb\n\nc", words=["b", "A", "c", "a"], people=[{"n": "x", "a": 3}, {"n": "Y", "a": 1}, {"n": "z"}], messages=CHATS["turns"])


def rendered(source, variables):
    """Text and, where there are generation blocks, what they hold; or that it is an error."""
    ranges, blocks = [], []
    try:
        template = chat_template_utils._compile_jinja_template(source)
        text = template.render(**variables)
        if re.search(r"\{%-?\s*generation", source):
            tracked, ranges = chat_template_utils._render_with_assistant_indices(template, **{**variables, "documents": None})
            assert tracked == text
            blocks = [text[begin:end] for begin, end in ranges]
    except Exception as error:  # noqa: BLE001: the tests ask only whether there is one
        return {"error": type(error).__name__}
    return {"text": text, **({"assistant": blocks} if blocks else {})}


def main():
    result = {"made_by": Path(__file__).name, "transformers": transformers.__version__, "jinja2": jinja2.__version__,
              "now": list(NOW.timetuple()), "tokens": TOKENS, "chats": CHATS, "options": OPTIONS, "rendered": {}, "variables": VARIABLES, "snippets": []}
    with mock.patch.object(chat_template_utils, "datetime") as clock:
        clock.now.return_value = NOW
        for path in sorted((HERE / "chat_templates").glob("*.jinja")):
            source = path.read_text()
            result["rendered"][path.stem] = {
                name: [rendered(source, {"tools": None, "documents": None, "add_generation_prompt": False, **TOKENS, **options, "messages": chat})
                       for options in OPTIONS] for name, chat in CHATS.items()}
        for source in (HERE / "jinja_snippets.txt").read_text().split("\n====\n"):
            result["snippets"].append({"template": source, **rendered(source, VARIABLES)})
    (HERE / "chat_templates.json").write_text(json.dumps(result, ensure_ascii=False, indent=0) + "\n")
    flat = [row for chats in result["rendered"].values() for rows in chats.values() for row in rows]
    print(f"{len(flat)} chats, {sum('error' in row for row in flat)} refused; {len(result['snippets'])} snippets")


if __name__ == "__main__":
    main()

"""Makes the requests that schemathesis makes up reach the model, and keeps them short of
work: what is asked is whether they are answered well, not whether it can write much."""

import schemathesis

LIMITS = {"max_tokens": 4, "max_completion_tokens": 4, "max_output_tokens": 4, "min_tokens": 0, "n": 2, "best_of": 2}
CONSTRAINTS = ["response_format", "json_schema", "grammar", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "text"]
TOKENS = ["allowed_token_ids", "stop_token_ids", "tokens"]
VOCABULARY = 256  # as many tokens as any model has


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    for name, limit in LIMITS.items():
        if type(body.get(name)) is int and limit < body[name] < 2**31:
            body[name] = limit
    if isinstance(body.get("model"), str) and body["model"]:
        body["model"] = "parrot"
    for name in TOKENS:
        if isinstance(body.get(name), list):
            body[name] = [t % VOCABULARY if type(t) is int and 0 <= t < 2**31 else t for t in body[name]]
    used = [name for name in CONSTRAINTS if body.get(name)]
    for name in used[1:]:  # only one can be used at once
        del body[name]
    if not body.get("stream") and isinstance(body.get("stream_options"), dict):
        del body["stream_options"]
    return body

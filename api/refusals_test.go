package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const (
	below      = "integer_below_min_value"
	above      = "integer_above_max_value"
	tooLittle  = "decimal_below_min_value"
	tooMuch    = "decimal_above_max_value"
	missing    = "missing_required_parameter"
	badType    = "invalid_type"
	badToken   = "invalid_token_id"
	emptyArray = "empty_array"
	tooMany    = "array_above_max_length"
	unserved   = "unsupported_parameter"
	badValue   = "invalid_value"
)

// refused checks a refusal as a client sees it.
func refused(t *testing.T, body, param, code string) {
	t.Helper()
	r, err := DecodeCompletion([]byte(body))
	switch {
	case err == nil:
		t.Fatalf("accepted: %+v", r)
	case r != nil:
		t.Errorf("a request beside the error: %+v", r)
	}
	if err.Status != http.StatusBadRequest || err.Type != TypeInvalidRequest || err.Param != param || err.Code != code {
		t.Errorf("status %d, type %s, param %q, code %q; want 400, %s, %q, %q (%s)", err.Status, err.Type, err.Param, err.Code, TypeInvalidRequest, param, code, err.Message)
	}
	if err.Message == "" || len(err.Message) > 400 || err.RetryAfter != 0 {
		t.Errorf("message %q, retry after %s", err.Message, err.RetryAfter)
	}
}

// refusals is a table of members and the refusal they meet.
type refusals []struct{ members, param, code string }

func (tests refusals) run(t *testing.T) {
	for _, tt := range tests {
		t.Run(name(tt.members), func(t *testing.T) { refused(t, with(tt.members), tt.param, tt.code) })
	}
}

func TestRefusedValues(t *testing.T) {
	refusals{
		{`"max_tokens":-1`, "max_tokens", below},
		{`"max_tokens":2147483648`, "max_tokens", above},
		{`"max_tokens":1e308`, "max_tokens", above},
		{`"max_tokens":1e999`, "max_tokens", above},
		{`"max_tokens":-1e999`, "max_tokens", below},
		{`"max_tokens":1.5`, "max_tokens", badType},
		{`"temperature":-0.1`, "temperature", tooLittle},
		{`"temperature":2.0001`, "temperature", tooMuch},
		{`"temperature":1e308`, "temperature", tooMuch},
		{`"temperature":1e999`, "temperature", tooMuch},
		{`"top_p":-1`, "top_p", tooLittle},
		{`"top_p":1.1`, "top_p", tooMuch},
		{`"n":0`, "n", below},
		{`"n":-1`, "n", below},
		{`"n":129`, "n", above},
		{`"n":1e9`, "n", above},
		{`"logprobs":-1`, "logprobs", below},
		{`"logprobs":21`, "logprobs", above},
		{`"seed":9223372036854775808`, "seed", above},
		{`"seed":-9223372036854775809`, "seed", below},
		{`"seed":1.5`, "seed", badType},

		{`"prompt":null`, "prompt", missing},
		{`"prompt":""`, "prompt", emptyArray},
		{`"prompt":[]`, "prompt", emptyArray},
		{`"prompt":[[]]`, "prompt", emptyArray},
		{`"prompt":[[1],[]]`, "prompt", emptyArray},
		{`"prompt":["a",""]`, "prompt", emptyArray},
		{`"prompt":["a",1]`, "prompt", badType},
		{`"prompt":["a",null]`, "prompt", badType},
		{`"prompt":["a",["b"]]`, "prompt", badType},
		{`"prompt":[[1],2]`, "prompt", badType},
		{`"prompt":[[1],"a"]`, "prompt", badType},
		{`"prompt":[1,"a"]`, "prompt", badToken},
		{`"prompt":[1,[2]]`, "prompt", badToken},
		{`"prompt":[[[1]]]`, "prompt", badToken},
		{`"prompt":[null]`, "prompt", badToken},
		{`"prompt":[-1]`, "prompt", badToken},
		{`"prompt":[[1,-1]]`, "prompt", badToken},
		{`"prompt":[1.5]`, "prompt", badToken},
		{`"prompt":[2147483648]`, "prompt", badToken},
		{`"prompt":[1e400]`, "prompt", badToken},
		{`"prompt":[99999999999999999999999999]`, "prompt", badToken},
		{`"prompt":[` + strings.Repeat(`"a",`, 256) + `"a"]`, "prompt", tooMany},
		{`"prompt":[` + strings.Repeat(`[1],`, 256) + `[1]]`, "prompt", tooMany},
		{`"prompt":"a` + "\xff" + `"`, "prompt", badType},
		{`"prompt":"` + "\uFFFD and \xff" + `"`, "prompt", badType},
		{`"prompt":["fine","` + "\xc3" + `"]`, "prompt", badType},
		{`"prompt":"\ud83e"`, "prompt", badType},
		{`"prompt":"\udd9c"`, "prompt", badType},
		{`"prompt":"\ud83e\ud83e\udd9c"`, "prompt", badType},
		{`"prompt":"\ufffd and \ud83e"`, "prompt", badType},
		{`"prompt":"\\\ud83e"`, "prompt", badType},

		{`"model":null`, "model", missing},
		{`"model":""`, "model", missing},

		{`"stop":[` + strings.Repeat(`"x",`, MaxStops) + `"x"]`, "stop", tooMany},
		{`"stop":"` + strings.Repeat("x", MaxStopSize+1) + `"`, "stop", "string_above_max_length"},
		{`"stop":["a",1]`, "stop", badType},
		{`"stop":["a",null]`, "stop", badType},
		{`"stop":"a` + "\xff" + `"`, "stop", badType},
		{`"stop":["a","\ud83e"]`, "stop", badType},

		{`"stream_options":{"include_usage":true}`, "stream_options", ""},
		{`"stream":false,"stream_options":{"include_usage":false}`, "stream_options", ""},
		{`"stream":true,"stream_options":{"include_usage":1}`, "stream_options", badType},

		{`"lora":[` + strings.Repeat(`{"name":"a"},`, MaxLoRAs) + `{"name":"b"}]`, "lora", tooMany},
		{`"lora":[{"name":"a","id":0}]`, "lora", badValue},
		{`"lora":[{"id":null}]`, "lora", missing},
		{`"lora":[{"id":-1}]`, "lora", below},
		{`"lora":[{"id":2147483648}]`, "lora", above},
		{`"lora":[{"id":0.5}]`, "lora", badType},
		{`"lora":[{"id":"0"}]`, "lora", badType},
		{`"lora":[{}]`, "lora", missing},
		{`"lora":[{"scale":1}]`, "lora", missing},
		{`"lora":[{"name":null}]`, "lora", missing},
		{`"lora":[{"name":""}]`, "lora", missing},
		{`"lora":[{"name":1}]`, "lora", badType},
		{`"lora":[{"name":"a","scale":"1"}]`, "lora", badType},
		{`"lora":[{"name":"a","scale":true}]`, "lora", badType},
		{`"lora":[{"name":"a","scale":16.5}]`, "lora", tooMuch},
		{`"lora":[{"name":"a","scale":-1e308}]`, "lora", tooLittle},
		{`"lora":["a"]`, "lora", badType},
		{`"lora":[null]`, "lora", badType},
	}.run(t)
}

// name is a subtest's, short enough to read.
func name(s string) string { return s[:min(len(s), 60)] }

// Every field refuses every JSON type that is not its own.
func TestWrongTypes(t *testing.T) {
	values := map[string]string{"string": `"5"`, "number": `5`, "boolean": `true`, "object": `{"a":1}`, "array": `[{}]`}
	fields := map[string]string{
		"model": "string", "prompt": "string array", "max_tokens": "number", "temperature": "number", "top_p": "number", "n": "number",
		"seed": "number", "user": "string", "stop": "string", "logprobs": "number", "echo": "boolean", "stream": "boolean",
		"stream_options": "object", "add_special_tokens": "boolean", "lora": "",
		"top_k": "number", "min_p": "number", "typical_p": "number", "repetition_penalty": "number", "presence_penalty": "number", "frequency_penalty": "number",
		"logit_bias": "object", "min_tokens": "number", "ignore_eos": "boolean", "stop_token_ids": "array", "include_stop_str_in_output": "boolean",
		"allowed_token_ids": "array", "cache_prompt": "boolean", "response_format": "object", "structured_outputs": "object", "grammar": "string",
		"json_schema": "string object", "guided_json": "string object", "guided_regex": "string", "guided_choice": "array", "guided_grammar": "string",
	}
	for field, own := range fields {
		for kind, v := range values {
			if strings.Contains(own, kind) || field == "lora" && kind == "array" {
				continue
			}
			t.Run(field+" "+kind, func(t *testing.T) { refused(t, with(`"`+field+`":`+v), field, badType) })
		}
	}
}

func TestMissing(t *testing.T) {
	refused(t, `{}`, "model", missing)
	refused(t, `{"prompt":"p"}`, "model", missing)
	refused(t, `{"model":"m"}`, "prompt", missing)
}

// A field that would change the answer is refused by name, never passed over.
func TestUnsupported(t *testing.T) {
	fields := map[string][]string{
		"use_beam_search": {`true`}, "prompt_embeds": {`"AAAA"`},
	}
	for field := range unsupported {
		if fields[field] == nil {
			t.Errorf("%s is not tested", field)
		}
	}
	for field, values := range fields {
		for _, v := range values {
			t.Run(field+" "+v, func(t *testing.T) { refused(t, with(`"`+field+`":`+v), field, unserved) })
		}
	}
}

// Fields that are good alone and not together.
func TestTogether(t *testing.T) {
	for name, c := range map[string]struct{ members, param, code string }{
		"best_of below n":           {`"n":2,"best_of":1`, "best_of", "integer_below_min_value"},
		"best_of above the limit":   {`"best_of":21`, "best_of", "integer_above_max_value"},
		"best_of in a stream":       {`"best_of":2,"stream":true`, "best_of", "invalid_value"},
		"prompt_logprobs streamed":  {`"prompt_logprobs":0,"stream":true`, "prompt_logprobs", "invalid_value"},
		"all prompt_logprobs":       {`"prompt_logprobs":-1`, "prompt_logprobs", "integer_below_min_value"},
		"suffix and echo":           {`"suffix":"x","echo":true`, "suffix", "invalid_value"},
		"an empty bad word":         {`"bad_words":["a",""]`, "bad_words", "empty_string"},
		"a long bad word":           {`"bad_words":["` + strings.Repeat("a", MaxBadWordSize+1) + `"]`, "bad_words", "string_above_max_length"},
		"too many bad words":        {`"bad_words":["a"` + strings.Repeat(`,"a"`, MaxBadWords) + `]`, "bad_words", "array_above_max_length"},
		"bad words that are none":   {`"bad_words":[1]`, "bad_words", badType},
		"truncate_prompt_tokens -2": {`"truncate_prompt_tokens":-2`, "truncate_prompt_tokens", "integer_below_min_value"},
		"a long suffix":             {`"suffix":"` + strings.Repeat("a", MaxSuffix+1) + `"`, "suffix", "string_above_max_length"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, with(c.members), c.param, c.code) })
	}
	refused(t, `{"model":"m","prompt":[1,2],"suffix":"x"}`, "suffix", "invalid_value")
	refused(t, `{"model":"m","prompt":`+"["+strings.TrimSuffix(strings.Repeat(`"p",`, 10), ",")+"]"+`,"best_of":13}`, "best_of", "integer_above_max_value")
}

func TestRefusedBodies(t *testing.T) {
	const notJSON, notObject = "not valid JSON", "must be a JSON object"
	tests := []struct{ name, body, says string }{
		{"empty", "", notJSON},
		{"spaces", " \n", notJSON},
		{"text", "hello", notJSON},
		{"cut", `{"model":"m","prompt":"p"`, notJSON},
		{"NaN", with(`"temperature":NaN`), notJSON},
		{"Infinity", with(`"temperature":Infinity`), notJSON},
		{"hexadecimal", with(`"n":0x1`), notJSON},
		{"single quotes", `{'model':'m'}`, notJSON},
		{"text behind", with("") + " x", notJSON},
		{"brace behind", with("") + "}", notJSON},
		{"second object", with("") + with(""), notJSON},
		{"NUL behind", with("") + "\x00", notJSON},
		{"deep nesting", with(`"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), notJSON},
		{"deep nesting, never closed", strings.Repeat(`{"a":`, 100_000), notJSON},
		{"null", "null", notObject},
		{"array", "[]", notObject},
		{"string", `"x"`, notObject},
		{"number", "5", notObject},
		{"boolean", "true", notObject},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, tt.body, "", "")
			if _, err := DecodeCompletion([]byte(tt.body)); !strings.Contains(err.Message, tt.says) {
				t.Errorf("message %q", err.Message)
			}
		})
	}
}

// The message of a wrong type names the type that was sent.
func TestWrongTypeMessage(t *testing.T) {
	for v, kind := range map[string]string{`"s"`: "a string", `5`: "an integer", `5.5`: "a decimal", `1e3`: "a decimal", `true`: "a boolean", `{}`: "an object", `[]`: "an array", `null`: "null"} {
		_, err := DecodeCompletion([]byte(with(`"stop":[["x"],` + v + `]`)))
		if err == nil || !strings.Contains(err.Message, "got an array instead") {
			t.Errorf("the first element is to blame: %v", err)
		}
		_, err = DecodeCompletion([]byte(with(`"lora":[` + v + `]`)))
		if v != "{}" && (err == nil || !strings.Contains(err.Message, "got "+kind+" instead")) {
			t.Errorf("lora %s: %v", v, err)
		}
	}
}

// What a client sent is not sent back.
func TestMessagesDoNotRepeatInput(t *testing.T) {
	long, err := json.Marshal(strings.Repeat("Z", 5000))
	if err != nil {
		t.Fatal(err)
	}
	digits := strings.Repeat("7", 5000)
	for _, body := range []string{
		string(long), `{` + string(long), `{"n":` + string(long) + `}`, with(`"n":` + string(long)), with(`"n":` + digits), with(`"seed":` + digits), with(`"seed":` + string(long)),
		with(`"prompt":[` + digits + `]`), with(`"prompt":[` + string(long) + `,5]`), with(`"stop":` + string(long)), with(`"stop":{` + string(long) + `:1}`),
		with(`"suffix":[` + string(long) + `]`), with(`"bad_words":[` + string(long) + `]`), with(`"best_of":` + string(long)), with(`"lora":` + string(long)), with(`"lora":[{"name":"a","scale":` + digits + `}]`), with(`"stream_options":` + string(long)),
		with(`"logit_bias":{` + string(long) + `:1}`), with(`"logit_bias":{"` + digits + `":1}`), with(`"logit_bias":{"5":` + digits + `}`), with(`"stop_token_ids":[` + digits + `]`),
		with(`"structured_outputs":{` + string(long) + `:1}`), with(`"response_format":{"type":` + string(long) + `}`), with(`"grammar":` + string(long)),
		with(`"json_schema":` + string(long)), with(`"guided_regex":"(` + strings.Repeat("Z", 5000) + `"`),
	} {
		_, err := DecodeCompletion([]byte(body))
		if err == nil {
			t.Errorf("%.80s: accepted", body)
			continue
		}
		if n := strings.Count(err.Message, "Z") + strings.Count(err.Message, "7"); n > 64 {
			t.Errorf("%.80s: %d bytes of it are in the message %q", body, n, err.Message)
		}
	}
}

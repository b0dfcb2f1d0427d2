package api

import (
	"encoding/json"
	"reflect"
	"testing"
)

const flatClock = `{"type":"function","name":"clock","description":"d","strict":true,"parameters":{"type":"object"}}`

func TestResponsesAccepted(t *testing.T) {
	tests := []struct {
		name, body string
		change     func(*ChatRequest)
	}{
		{"text", asked(``), func(*ChatRequest) {}},
		{"fields that change nothing", asked(`"store":true,"metadata":{"a":"b"},"user":"u","truncation":"disabled","background":false,"parallel_tool_calls":true,
			"stream_options":{"include_obfuscation":false},"include":["reasoning.encrypted_content"],"text":{"format":{"type":"text"},"verbosity":"low"},"service_tier":"auto"`), func(*ChatRequest) {}},
		{"settings", asked(`"max_output_tokens":5,"temperature":0.5,"top_p":0.25,"stream":true,"reasoning":{"effort":"low"}`), func(r *ChatRequest) {
			r.MaxTokens, r.Temperature, r.TopP, r.Stream, r.TemplateArgs = 5, 0.5, 0.25, true, map[string]any{"reasoning_effort": "low"}
		}},
		{"instructions", asked(`"instructions":"be brief"`), func(r *ChatRequest) {
			r.Messages = []ChatMessage{{Role: "system", Content: "be brief"}, {Role: "user", Content: "q"}}
		}},
		{"logprobs", asked(`"include":["message.output_text.logprobs"],"top_logprobs":2`), func(r *ChatRequest) { r.Logprobs = 2 }},
		{"top_logprobs alone", asked(`"top_logprobs":2`), func(*ChatRequest) {}},
		{"tools", asked(`"tools":[` + flatClock + `],"tool_choice":{"type":"function","name":"clock"},"parallel_tool_calls":false`), func(r *ChatRequest) {
			r.Tools = []Tool{{Name: "clock", Description: "d", Strict: true, Parameters: json.RawMessage(`{"type":"object"}`)}}
			r.ToolChoice = ToolChoice{Mode: ToolsNamed, Name: "clock"}
		}},
		{"items", `{"model":"m","input":[{"role":"developer","content":"d"},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},
			{"type":"message","role":"assistant","id":"msg_1","status":"completed","content":[{"type":"output_text","text":"wait","annotations":[]}]},
			{"type":"function_call","id":"fc_1","call_id":"c1","name":"clock","arguments":"{}"},{"type":"function_call","call_id":"c2","name":"clock","arguments":"{\"x\":1}"},
			{"type":"function_call_output","call_id":"c1","output":"noon"},{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"late"}]}]}`,
			func(r *ChatRequest) {
				r.Messages = []ChatMessage{
					{Role: "system", Content: "d"}, {Role: "user", Content: "a\nb"},
					{Role: "assistant", Content: "wait", ToolCalls: []MessageCall{{"c1", "clock", "{}"}, {"c2", "clock", `{"x":1}`}}},
					{Role: "tool", ToolCallID: "c1", Content: "noon"}, {Role: "tool", ToolCallID: "c2", Content: "late"},
				}
			}},
		{"calls without words", `{"model":"m","input":[{"role":"user","content":"q"},{"type":"function_call","call_id":"c1","name":"clock","arguments":"{}"}]}`, func(r *ChatRequest) {
			r.Messages = append(r.Messages, ChatMessage{Role: "assistant", ToolCalls: []MessageCall{{"c1", "clock", "{}"}}})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeResponses([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			got.Seed = 0
			want := chatDefaults()
			tt.change(&want)
			if !reflect.DeepEqual(got.ChatRequest, want) {
				t.Errorf("got  %+v\nwant %+v", got.ChatRequest, want)
			}
		})
	}
}

// The answer repeats what was asked for, defaults included.
func TestResponseSettings(t *testing.T) {
	for body, want := range map[string]string{
		asked(``): `{"instructions":null,"max_output_tokens":null,"metadata":{},"model":"m","parallel_tool_calls":true,"previous_response_id":null,"temperature":1,
			"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1,"truncation":"disabled","user":null}`,
		asked(`"instructions":"i","max_output_tokens":5,"metadata":{"a":"b"},"parallel_tool_calls":false,"temperature":0.5,"text":{"format":{"type":"json_object"}},"tools":[` + flatClock + `],
			"tool_choice":"none","include":["message.output_text.logprobs"],"top_logprobs":3,"top_p":0.5,"user":"u"`): `{"instructions":"i","max_output_tokens":5,"metadata":{"a":"b"},
			"model":"m","parallel_tool_calls":false,"previous_response_id":null,"temperature":0.5,"text":{"format":{"type":"json_object"}},"tool_choice":"none","tools":[` + flatClock + `],
			"top_logprobs":3,"top_p":0.5,"truncation":"disabled","user":"u"}`,
	} {
		r, apiErr := DecodeResponses([]byte(body))
		if apiErr != nil {
			t.Fatal(apiErr)
		}
		got, err := json.Marshal(r.Settings)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(got, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestResponsesRefused(t *testing.T) {
	input := func(v string) string { return `{"model":"m","input":` + v + `}` }
	for _, tt := range []struct{ body, param, code, says string }{
		{`{"model":"m"}`, "input", missing, ""},
		{`{"input":"q"}`, "model", missing, ""},
		{input(`5`), "input", badType, ""},
		{input(`[]`), "input", emptyArray, ""},
		{input(`["q"]`), "input", badType, "input[0]"},
		{input(`"\ud83e"`), "input", badType, "UTF-8"},
		{input(`[{"type":"item_reference","id":"x"}]`), "input", badValue, "item_reference"},
		{input(`[{"type":"reasoning","summary":[]}]`), "input", badValue, "reasoning"},
		{input(`[{"role":"tool","content":"x"}]`), "input", badValue, "function_call_output"},
		{input(`[{"role":"user"}]`), "input", missing, "input[0].content"},
		{input(`[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]`), "input", badValue, "input_image"},
		{input(`[{"role":"user","content":[{"type":"input_file","file_id":"x"}]}]`), "input", badValue, "input_file"},
		{input(`[{"type":"function_call","name":"f","arguments":"{}"}]`), "input", missing, "input[0].call_id"},
		{input(`[{"type":"function_call","call_id":"c","name":"f","arguments":"x"}]`), "input", badValue, "input[0].arguments"},
		{input(`[{"type":"function_call_output","output":"x"}]`), "input", missing, "input[0].call_id"},
		{input(`[{"type":"function_call_output","call_id":"c"}]`), "input", missing, "input[0].output"},

		{asked(`"instructions":["x"]`), "instructions", badType, ""},
		{asked(`"max_output_tokens":0`), "max_output_tokens", below, ""},
		{asked(`"tools":[{"type":"web_search"}]`), "tools", badValue, "web_search"},
		{asked(`"tools":[{"type":"function","function":{"name":"f"}}]`), "tools", missing, "tools[0].name"},
		{asked(`"tools":[` + flatClock + `],"tool_choice":{"type":"function","name":"x"}`), "tool_choice", badValue, ""},
		{asked(`"tools":[` + flatClock + `],"text":{"format":{"type":"json_object"}}`), "tools", badValue, ""},
		{asked(`"text":5`), "text", badType, ""},
		{asked(`"text":{"format":{"name":"x"}}`), "text", missing, "text.format.type"},
		{asked(`"text":{"format":{"type":"xml"}}`), "text", badValue, "xml"},
		{asked(`"text":{"format":{"type":"json_schema","name":"n"}}`), "text", missing, "text.format.schema"},
		{asked(`"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"thing"}}}`), "text", badSchema, ""},
		{asked(`"text":{"format":{"type":"json_object"}},"guided_regex":"a+"`), "text", badValue, "only one"},
		{asked(`"response_format":{"type":"json_object"}`), "response_format", unserved, "text.format"},
		{asked(`"include":"x"`), "include", badType, ""},
		{asked(`"include":[5]`), "include", badType, ""},
		{asked(`"include":["file_search_call.results"]`), "include", badValue, "file_search_call"},
		{asked(`"previous_response_id":"resp_1"`), "previous_response_id", unserved, ""},
		{asked(`"conversation":{"id":"c"}`), "conversation", unserved, ""},
		{asked(`"background":true`), "background", unserved, ""},
		{asked(`"truncation":"auto"`), "truncation", unserved, ""},
		{asked(`"reasoning":5`), "reasoning", badType, ""},
	} {
		t.Run(name(tt.body), func(t *testing.T) { chatRefused(t, DecodeResponses, tt.body, tt.param, tt.code, tt.says) })
	}
}

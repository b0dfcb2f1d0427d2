package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"lorikeet/backend/engine"
	"lorikeet/tests/testserver"
)

type toolCall struct {
	ID, Type string
	Function struct{ Name, Arguments string }
}

type chatAnswer struct {
	Choices []struct {
		Message struct {
			Content   *string
			ToolCalls []toolCall `json:"tool_calls"`
		}
		FinishReason string `json:"finish_reason"`
	}
	Usage testserver.Usage
}

// ask sends a request that succeeds; it may be called on any goroutine.
func ask(t *testing.T, s *testserver.Server, path string, b body, answer any) {
	t.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		t.Error(err)
		return
	}
	resp := s.Post(path, "application/json", data)
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: status %d, %v", data, resp.StatusCode, err)
	}
}

// The demo model chats as it was trained to, each adapter in its voice, and a system
// message is heard.
func TestChat(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	question := body{"role": "user", "content": "What colour is the sky?"}
	for _, tt := range []struct {
		model    string
		messages []body
		want     string
	}{
		{"parrot", []body{question}, "The sky is blue."},
		{"parrot", []body{{"role": "user", "content": []body{{"type": "text", "text": "What colour is the sky?"}}}}, "The sky is blue."},
		{"parrot:pirate", []body{question}, "Arr! The sky be blue, matey!"},
		{"parrot:shout", []body{question}, "THE SKY IS BLUE!"},
		{"parrot", []body{{"role": "developer", "content": "Talk like a pirate."}, question}, "Arr! The sky be blue, matey!"},
		{"parrot", []body{question, {"role": "assistant", "content": "The sky is blue."}, {"role": "user", "content": "What is the capital of Norway?"}}, "The capital of Norway is Oslo."},
	} {
		var chat chatAnswer
		ask(t, s, "/v1/chat/completions", body{"model": tt.model, "messages": tt.messages, "temperature": 0}, &chat)
		if c := chat.Choices[0]; c.Message.Content == nil || *c.Message.Content != tt.want || c.FinishReason != "stop" {
			t.Errorf("%s, %v: %+v", tt.model, tt.messages, c)
		}
		var response struct {
			Status string
			Output []struct{ Content []struct{ Text string } }
			Usage  struct {
				Input   int `json:"input_tokens"`
				Details struct {
					Cached int `json:"cached_tokens"`
				} `json:"input_tokens_details"`
			}
		}
		if _, parts := tt.messages[0]["content"].([]body); parts {
			continue // they are spelled otherwise
		}
		ask(t, s, "/v1/responses", body{"model": tt.model, "input": tt.messages, "temperature": 0}, &response)
		if response.Status != "completed" || len(response.Output) != 1 || response.Output[0].Content[0].Text != tt.want || response.Usage.Input != chat.Usage.PromptTokens {
			t.Errorf("%s, %v: %+v", tt.model, tt.messages, response)
		}
		if response.Usage.Details.Cached == 0 {
			t.Errorf("%s, %v: the chat's prompt was not kept", tt.model, tt.messages)
		}
	}
}

// Whatever the schema of a tool, the arguments of its calls are JSON of that schema,
// though the model has never heard of tools.
func TestRandomTools(t *testing.T) {
	s := testserver.Demo(t, engine.Params{})
	const seed = 6
	r := rand.New(rand.NewPCG(seed, seed))
	places := make(chan struct{}, 8)
	var requests sync.WaitGroup
	for i := range 60 {
		schema, err := json.Marshal(body{"type": "object", "properties": body{"a": randomSchema(r, 1), "b": randomSchema(r, 0)}, "required": []string{"a"}, "additionalProperties": false})
		if err != nil {
			t.Fatal(err)
		}
		var choice any = "required"
		if i%2 == 0 {
			choice = body{"type": "function", "function": body{"name": "do_it"}}
		}
		b := body{
			"model": []string{"parrot", "parrot:json", "parrot:pirate"}[i%3], "messages": []body{{"role": "user", "content": "What colour is the sky?"}}, "seed": i, "max_tokens": 400,
			"tools": []body{{"type": "function", "function": body{"name": "do_it", "parameters": json.RawMessage(schema)}}}, "tool_choice": choice, "parallel_tool_calls": false,
		}
		places <- struct{}{}
		requests.Go(func() {
			defer func() { <-places }()
			var chat chatAnswer
			ask(t, s, "/v1/chat/completions", b, &chat)
			if len(chat.Choices) != 1 || len(chat.Choices[0].Message.ToolCalls) != 1 {
				t.Errorf("%s: %+v", schema, chat)
				return
			}
			c := chat.Choices[0]
			want := "stop"
			if choice == "required" {
				want = "tool_calls"
			}
			call := c.Message.ToolCalls[0]
			if c.FinishReason != want || call.ID == "" || call.Type != "function" || call.Function.Name != "do_it" || c.Message.Content != nil {
				t.Errorf("%+v", c)
			}
			if err := validate(string(schema), call.Function.Arguments); err != nil {
				t.Errorf("%s: %s: %v", schema, call.Function.Arguments, err)
			}
		})
	}
	requests.Wait()
}

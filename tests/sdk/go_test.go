package sdk

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"

	"lorikeet/demo"
)

const (
	question = "What colour is the sky?"
	arr      = " Arr! The sky be blue, matey!"
)

func newClient(url, key string, retries int) openai.Client {
	return openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(retries))
}

func completionParams(model string) openai.CompletionNewParams {
	return openai.CompletionNewParams{
		Model:       openai.CompletionNewParamsModel(model),
		Prompt:      openai.CompletionNewParamsPromptUnion{OfString: openai.String(question)},
		MaxTokens:   openai.Int(32),
		Temperature: openai.Float(0),
	}
}

func chatParams() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:               demo.Name,
		Messages:            []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)},
		MaxCompletionTokens: openai.Int(128),
		Temperature:         openai.Float(0),
	}
}

// failed checks an error of the API.
func failed(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != status || e.Code != code {
		t.Errorf("got %v; want %d, %s", err, status, code)
	}
}

func TestGo(t *testing.T) {
	s := start(t)
	client := newClient(s.open, "unused", 0)
	t.Run("completions", func(t *testing.T) { goCompletions(t, &client) })
	t.Run("chat", func(t *testing.T) { goChat(t, &client) })
	t.Run("tools", func(t *testing.T) { goTools(t, &client) })
	t.Run("responses", func(t *testing.T) { goResponses(t, &client) })
	t.Run("models", func(t *testing.T) { goModels(t, &client) })
	t.Run("embeddings", func(t *testing.T) { goEmbeddings(t, &client) })
	t.Run("keys", func(t *testing.T) { goKeys(t, s.keyed) })
	t.Run("retries and leaving", func(t *testing.T) { goRetries(t, s.busy) })
}

func goCompletions(t *testing.T, client *openai.Client) {
	params := completionParams("parrot:pirate")
	c, err := client.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if c.Choices[0].Text != arr || c.Choices[0].FinishReason != "stop" {
		t.Errorf("got %q, %s", c.Choices[0].Text, c.Choices[0].FinishReason)
	}
	stream := client.Completions.NewStreaming(t.Context(), params)
	text, chunks := "", 0
	for stream.Next() {
		text += stream.Current().Choices[0].Text
		chunks++
	}
	if err := stream.Err(); err != nil || text != arr || chunks < 8 {
		t.Errorf("streamed %q in %d chunks: %v", text, chunks, err)
	}
	_, err = client.Completions.New(t.Context(), completionParams("nobody"))
	failed(t, err, 404, "model_not_found")
	params.Temperature = openai.Float(3)
	_, err = client.Completions.New(t.Context(), params)
	failed(t, err, 400, "decimal_above_max_value")
}

func goChat(t *testing.T, client *openai.Client) {
	c, err := client.Chat.Completions.New(t.Context(), chatParams())
	if err != nil {
		t.Fatal(err)
	}
	want := c.Choices[0].Message.Content
	var whole openai.ChatCompletionAccumulator
	stream := client.Chat.Completions.NewStreaming(t.Context(), chatParams())
	for stream.Next() {
		if !whole.AddChunk(stream.Current()) {
			t.Fatal("the accumulator refuses a chunk")
		}
	}
	if err := stream.Err(); err != nil || want != "The sky is blue." || whole.Choices[0].Message.Content != want || whole.Choices[0].FinishReason != "stop" {
		t.Errorf("streamed %+v: %v; want %q", whole.Choices, err, want)
	}

	formatted := chatParams()
	formatted.ResponseFormat.OfJSONSchema = &openai.ResponseFormatJSONSchemaParam{JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{
		Name: "answer", Strict: openai.Bool(true), Schema: map[string]any{
			"type": "object", "properties": map[string]any{"topic": map[string]any{"enum": []string{"colour", "animal"}}}, "required": []string{"topic"}, "additionalProperties": false,
		},
	}}
	c, err = client.Chat.Completions.New(t.Context(), formatted)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Topic string }
	if err := json.Unmarshal([]byte(c.Choices[0].Message.Content), &answer); err != nil || !slices.Contains([]string{"colour", "animal"}, answer.Topic) {
		t.Errorf("%q: %v", c.Choices[0].Message.Content, err)
	}
}

func goTools(t *testing.T, client *openai.Client) {
	params := chatParams()
	params.ParallelToolCalls = openai.Bool(false)
	params.ToolChoice.OfAuto = openai.String("required")
	params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name: "look_up", Parameters: openai.FunctionParameters{
			"type": "object", "properties": map[string]any{"of": map[string]any{"enum": []string{"sky", "sea"}}}, "required": []string{"of"},
		},
	})}
	c, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	calls := c.Choices[0].Message.ToolCalls
	if len(calls) != 1 || calls[0].Function.Name != "look_up" || !json.Valid([]byte(calls[0].Function.Arguments)) || c.Choices[0].FinishReason != "tool_calls" {
		t.Errorf("%+v, %s", calls, c.Choices[0].FinishReason)
	}
}

func goResponses(t *testing.T, client *openai.Client) {
	params := responses.ResponseNewParams{
		Model: demo.Name, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(question)},
		MaxOutputTokens: openai.Int(32), Temperature: openai.Float(0),
	}
	r, err := client.Responses.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	text, last := "", ""
	stream := client.Responses.NewStreaming(t.Context(), params)
	for stream.Next() {
		last = stream.Current().Type
		if last == "response.output_text.delta" {
			text += stream.Current().Delta
		}
	}
	if err := stream.Err(); err != nil || text != r.OutputText() || text == "" || last != "response.completed" {
		t.Errorf("streamed %q, ending with %s: %v; want %q", text, last, err, r.OutputText())
	}
}

func goModels(t *testing.T, client *openai.Client) {
	models, err := client.Models.List(t.Context())
	if err != nil || models.Data[0].ID != demo.Name {
		t.Errorf("models: %+v, %v", models, err)
	}
	if m, err := client.Models.Get(t.Context(), "parrot:pirate"); err != nil || m.ID != "parrot:pirate" {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = client.Models.Get(t.Context(), "some/body:else")
	failed(t, err, 404, "model_not_found")
}

func goEmbeddings(t *testing.T, client *openai.Client) {
	e, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: demo.Name, Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{question, "x"}},
		EncodingFormat: openai.EmbeddingNewParamsEncodingFormatFloat,
	})
	if err != nil || len(e.Data) != 2 || len(e.Data[0].Embedding) == 0 || e.Data[1].Index != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}

func goKeys(t *testing.T, url string) {
	ask := func(key string) error {
		client := newClient(url, key, 0)
		_, err := client.Completions.New(t.Context(), completionParams(demo.Name))
		return err
	}
	failed(t, ask("sk-wrong"), 401, "invalid_api_key")
	if err := ask(goodKey); err != nil {
		t.Error(err)
	}
	if err := ask(slowKey); err != nil {
		t.Error(err)
	}
	failed(t, ask(slowKey), 429, "rate_limit_exceeded")
}

func goRetries(t *testing.T, url string) {
	client := newClient(url, "unused", 2)
	if _, err := client.Completions.New(t.Context(), completionParams(demo.Name)); err != nil {
		t.Fatal(err)
	}
	long := completionParams(demo.Name)
	long.N, long.MaxTokens, long.Temperature = openai.Int(8), openai.Int(500), param.Opt[float64]{}
	long.SetExtraFields(map[string]any{"ignore_eos": true})
	stream := client.Completions.NewStreaming(t.Context(), long)
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Models.List(t.Context()); err != nil { // answered when the stream was left
		t.Error(err)
	}
}

// A client that uses the openai-go package. Start the demo with `make run`, then:
// go run ./examples/go
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func main() {
	url := cmp.Or(os.Getenv("LORIKEET_URL"), "http://127.0.0.1:8080")
	client := openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey("unused"))
	const question = "What colour is the sky?"

	// The model names a base and an adapter.
	answer, err := client.Completions.New(context.Background(), openai.CompletionNewParams{
		Model:     "parrot:pirate",
		Prompt:    openai.CompletionNewParamsPromptUnion{OfString: openai.String(question)},
		MaxTokens: openai.Int(32),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Choices[0].Text)

	// A conversation, as it is generated.
	stream := client.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{
		Model:               "parrot",
		Messages:            []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)},
		MaxCompletionTokens: openai.Int(32),
	})
	for stream.Next() {
		fmt.Print(stream.Current().Choices[0].Delta.Content)
	}
	if err := stream.Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println()
}

// Lorikeet is an OpenAI-compatible server for one base model and many LoRA
// adapters, on llama.cpp. See README.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"lorikeet/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		os.Exit(1)
	}
}

// run is the program. An error was already written to stderr, in one line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	err := cli.Command(version, stdout, stderr, args).ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "lorikeet: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return err
}

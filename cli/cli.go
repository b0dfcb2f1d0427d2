// Package cli holds Lorikeet's commands, one file each. It reads flags, builds the
// parts of the program from the configuration and runs them.
package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// Command is the root of the commands.
func Command(version string, stdout, stderr io.Writer, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "lorikeet",
		Short:         "Serve one base model and many LoRA adapters over the OpenAI API",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true, // main writes them
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(args)
	root.AddCommand(serveCommand(version), healthcheckCommand(), benchCommand(version), adaptersCommand(), convertCommand())
	return root
}

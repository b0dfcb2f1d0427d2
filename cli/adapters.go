package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lorikeet/api"
)

// adminKeyEnv names the environment variable that holds the admin key of the server to
// call. It differs from that of a server's own configuration.
const adminKeyEnv = "LORIKEET_ADMIN_KEY"

// adaptersCommand manages the adapters of a running server. Only inspect needs none.
func adaptersCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "adapters",
		Short: "Manage the adapters of a running server, or look at one's files",
	}
	var s client
	onServer := func(sub *cobra.Command) *cobra.Command {
		sub.Flags().StringVar(&s.url, "url", "http://127.0.0.1:8080", "the server to call")
		sub.Flags().StringVar(&s.key, "key", "", "its admin key, if it has one (or "+adminKeyEnv+")")
		sub.PreRun = func(*cobra.Command, []string) {
			if s.key == "" {
				s.key = os.Getenv(adminKeyEnv)
			}
		}
		return sub
	}
	c.AddCommand(onServer(lsCommand(&s)), onServer(loadCommand(&s)), onServer(unloadCommand(&s)),
		onServer(pinCommand(&s, "pin", "Keep an adapter in its slot, loading it first if need be")),
		onServer(pinCommand(&s, "unpin", "Let an adapter leave its slot again when others are wanted")),
		inspectCommand())
	return c
}

func lsCommand(s *client) *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the adapters and where they are",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := s.call(cmd.Context(), http.MethodGet, "/v1/adapters", nil)
			if err != nil {
				return fmt.Errorf("list adapters: %w", err)
			}
			out := cmd.OutOrStdout()
			if raw {
				_, err := out.Write(answer)
				return err
			}
			var list api.AdapterList
			if err := json.Unmarshal(answer, &list); err != nil {
				return fmt.Errorf("list adapters: %w", err)
			}
			writeAdapters(out, paintFor(out), &list, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&raw, "json", false, "print the server's answer as it is")
	return c
}

func loadCommand(s *client) *cobra.Command {
	var name, model string
	var replace, pin bool
	c := &cobra.Command{
		Use:   "load PATH",
		Short: "Serve a PEFT directory or a .gguf adapter",
		Long: "Serve a PEFT directory or a .gguf adapter that the server can read.\n\n" +
			"A relative PATH that exists here is made absolute; one that does not is within the server's folder of adapters.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := args[0]
			if _, err := os.Stat(path); err == nil {
				if path, err = filepath.Abs(path); err != nil {
					return fmt.Errorf("load adapter: %w", err)
				}
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(path), ".gguf")
			}
			answer, err := s.call(cmd.Context(), http.MethodPost, "/v1/load_lora_adapter", map[string]any{
				"lora_name": name, "lora_path": path, "load_inplace": replace, "pinned": pin, "base_model_name": model,
			})
			if err != nil {
				return fmt.Errorf("load adapter: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), string(answer))
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "what to serve it as; the default is the last part of PATH, without .gguf")
	c.Flags().BoolVar(&replace, "replace", false, "also if the name is served already: new requests get the new version")
	c.Flags().BoolVar(&pin, "pin", false, "keep it in its slot")
	c.Flags().StringVar(&model, "model", "", "the base that it is for, if the server has several")
	return c
}

func unloadCommand(s *client) *cobra.Command {
	return &cobra.Command{
		Use:   "unload NAME",
		Short: "End the service of an adapter, after its requests",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := s.call(cmd.Context(), http.MethodPost, "/v1/unload_lora_adapter", map[string]any{"lora_name": args[0]})
			if err != nil {
				return fmt.Errorf("unload adapter: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), string(answer))
			return nil
		},
	}
}

// pinCommand is pin or unpin.
func pinCommand(s *client, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := s.call(cmd.Context(), http.MethodPost, "/v1/adapters/"+url.PathEscape(args[0])+"/"+verb, nil)
			if err != nil {
				return fmt.Errorf("%s adapter: %w", verb, err)
			}
			var a api.Adapter
			if err := json.Unmarshal(answer, &a); err != nil {
				return fmt.Errorf("%s adapter: %w", verb, err)
			}
			state := "is not pinned"
			if a.Pinned {
				state = "is pinned"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s (%s).\n", a.ID, state, whereabouts(&a))
			return nil
		},
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lorikeet/adapters"
	"lorikeet/config"
	"lorikeet/server"
)

func serveCommand(version string) *cobra.Command {
	var file, addr string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the configured models, or the demo if there are none",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			overrides := map[string]any{}
			if cmd.Flags().Changed("addr") {
				overrides["server.addr"] = addr
			}
			if file == "" {
				file = os.Getenv(config.EnvPrefix + "_CONFIG")
			}
			cfg, err := config.Load(file, overrides)
			if err != nil {
				return err
			}
			setLog(cmd.ErrOrStderr(), cfg.Log)
			return serve(cmd.Context(), cfg, version, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration file in YAML (or "+config.EnvPrefix+"_CONFIG)")
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:8080", "where to listen, host:port")
	return c
}

// serve runs until ctx ends, then drains.
func serve(ctx context.Context, cfg *config.Config, version string, stdout io.Writer) error {
	// The port first: a model may take long to load, and a port in use is soon told.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Server.Addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("address %s is in use; choose another with --addr or server.addr", cfg.Server.Addr)
		}
		return fmt.Errorf("listen: %w", err)
	}
	defer listener.Close()
	models, err := openModels(cfg)
	defer models.close()
	if err != nil {
		return err
	}
	registry, err := adapters.NewRegistry(models.bases...)
	if err != nil {
		return err
	}

	handler := server.New(server.Options{
		Registry: registry, MaxBodyBytes: cfg.Server.MaxBodyBytes, BodyTimeout: cfg.Server.BodyTimeout, AdminKey: cfg.Server.AdminKey, Version: version,
		Keys: apiKeys(cfg.Server.APIKeys), Origins: cfg.Server.CORSOrigins, AdapterLimits: adapterLimits(cfg.Adapters),
	})
	httpServer := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    server.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- httpServer.Serve(listener) }() // ends with Shutdown or Close
	greet(stdout, listener.Addr().String(), registry)

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	slog.Info("shutting down", "timeout", cfg.Server.ShutdownTimeout)
	handler.Drain()
	drain, cancel := context.WithTimeout(context.Background(), cfg.Server.ShutdownTimeout)
	defer cancel()
	// Until the last request has ended the port stays open, so that others are told to go elsewhere.
	err = handler.Wait(drain)
	if err == nil {
		err = httpServer.Shutdown(drain)
	}
	if err != nil {
		slog.Warn("some requests did not finish in time", "err", err)
		_ = httpServer.Close()
	}
	return nil
}

func apiKeys(configured []config.APIKey) []server.Key {
	var keys []server.Key
	for _, k := range configured {
		keys = append(keys, server.Key{Name: k.Name, Hash: k.Hash(), Models: k.Models, Limits: server.Limits(k.Limits)})
	}
	return keys
}

// adapterLimits gives nil if no adapter is limited.
func adapterLimits(a config.Adapters) func(base, adapter string) server.Limits {
	if !a.Limited() {
		return nil
	}
	return func(base, adapter string) server.Limits { return server.Limits(a.LimitsOf(base, adapter)) }
}

// greet tells a person what is served and how to try it.
func greet(w io.Writer, addr string, registry *adapters.Registry) {
	fmt.Fprintf(w, "\nLorikeet listens on http://%s and serves:\n", addr)
	example := ""
	for _, b := range registry.Bases() {
		fmt.Fprintf(w, "  %s\n", b.Name)
		if example == "" {
			example = b.Name
		}
		for i, a := range b.Adapters.Names() {
			if i == 20 {
				fmt.Fprintf(w, "  … (%d adapters; GET /v1/models lists them)\n", len(b.Adapters.Names()))
				break
			}
			fmt.Fprintf(w, "  %s:%s\n", b.Name, a)
			if !strings.Contains(example, ":") || a == "pirate" {
				example = b.Name + ":" + a
			}
		}
	}
	fmt.Fprintf(w, "\nTry it:\n  curl http://%s/v1/completions -H 'Content-Type: application/json' \\\n    -d '{\"model\": %q, \"prompt\": \"What colour is the sky?\", \"max_tokens\": 64, \"temperature\": 0}'\n\n", addr, example)
}

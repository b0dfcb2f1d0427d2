// Package config reads Lorikeet's configuration: a file in YAML, environment
// variables and flags, in rising precedence, over defaults. It is the only importer
// of viper; what it gives is a plain [Config] that was validated.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// Config is everything that can be configured.
type Config struct {
	Server   Server
	Log      Log
	Adapters Adapters
	Models   []Model // none: the demo
}

// Server is the HTTP side.
type Server struct {
	Addr            string        // host:port
	MaxBodyBytes    int64         `mapstructure:"max_body_bytes"`
	BodyTimeout     time.Duration `mapstructure:"body_timeout"`
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	AdminKey        string        `mapstructure:"admin_key"` // "": adapters are managed from this machine only
	APIKeys         []APIKey      `mapstructure:"api_keys"`  // none: models are for everyone
	CORSOrigins     []string      `mapstructure:"cors_origins"`
}

// Log is what is written to standard error.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

// Adapters says where adapters come from and how they are kept.
type Adapters struct {
	Dir           string                   // of all models that name no folder of their own
	Roots         []string                 // from which adapters can be registered at run time, beside the folders
	State         string                   // a file; empty: in Dir, if there is one
	Settle        time.Duration            // for how long files have not changed when they are taken
	LoadTimeout   time.Duration            `mapstructure:"load_timeout"`
	UnloadTimeout time.Duration            `mapstructure:"unload_timeout"`
	HostBytes     int64                    `mapstructure:"host_bytes"` // for each base
	Limits        `mapstructure:",squash"` // of each adapter
	Entries       []Adapter
}

// Adapter is an adapter that is served whether or not it lies in a folder.
type Adapter struct {
	Name   string
	Path   string
	Model  string // whose it is; may be empty if there is one model
	Pinned bool
	Limits `mapstructure:",squash"` // in place of those of all adapters, where they are not 0
}

// Model is one base. Zeros mean the engine's defaults.
type Model struct {
	Name           string
	Path           string
	Context        int
	Sequences      int
	CacheTokens    int `mapstructure:"cache_tokens"`
	Queue          int
	QueueTokens    int     `mapstructure:"queue_tokens"`
	StepTokens     int     `mapstructure:"step_tokens"`
	Stretch        float64 `mapstructure:"prompt_stretch"`
	Threads        int
	GPULayers      *int      `mapstructure:"gpu_layers"` // nil: all, if there is a CUDA backend
	Devices        []string  // GPUs; empty: all
	TensorSplit    []float64 `mapstructure:"tensor_split"`    // share of each of them; empty: by free memory
	FlashAttention string    `mapstructure:"flash_attention"` // empty: auto
	KVCacheType    string    `mapstructure:"kv_cache_type"`
	Slots          int
	MaxRank        int      `mapstructure:"max_rank"` // 0: follows the adapters found at start
	Targets        []string // matrices that adapters may change
	AdaptersDir    string   `mapstructure:"adapters_dir"`
	Pooling        string   // of embeddings: last, mean; empty: as the model's file says
	ChatTemplate   string   `mapstructure:"chat_template"` // a file; empty: as the base has it
}

// defaults has every key that is not within a list.
var defaults = map[string]any{
	"server.addr":             "127.0.0.1:8080",
	"server.max_body_bytes":   int64(10 << 20),
	"server.body_timeout":     30 * time.Second,
	"server.shutdown_timeout": 30 * time.Second,
	"server.admin_key":        "",
	"server.api_keys":         []APIKey{},
	"server.cors_origins":     []string{},
	"log.level":               "info",
	"log.format":              "text",
	"adapters.dir":            "",
	"adapters.entries":        []Adapter{},
	"adapters.roots":          []string{},
	"adapters.state":          "",
	"adapters.settle":         500 * time.Millisecond,
	"adapters.load_timeout":   5 * time.Second,
	"adapters.unload_timeout": 30 * time.Second,
	"adapters.host_bytes":     int64(1 << 30),

	"adapters.requests_per_minute": 0,
	"adapters.tokens_per_minute":   0,
	"adapters.concurrent":          0,
}

// EnvPrefix begins the names of environment variables: server.addr is
// LORIKEET_SERVER_ADDR.
const EnvPrefix = "LORIKEET"

// Load reads the configuration. file may be empty: then there is none. overrides
// are keys set by flags.
func Load(file string, overrides map[string]any) (*Config, error) {
	v := viper.New()
	v.SetEnvPrefix(EnvPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	for key, value := range defaults {
		v.SetDefault(key, value)
	}
	if file != "" {
		v.SetConfigFile(file)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			var pathError *fs.PathError
			if errors.As(err, &pathError) {
				return nil, fmt.Errorf("config %s: %w", file, pathError.Err)
			}
			return nil, fmt.Errorf("config %s: %w", file, err)
		}
	}
	for key, value := range overrides {
		v.Set(key, value)
	}
	var c Config
	err := v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		wholeDurations, mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","), plainKeys)))
	if err == nil {
		c.Server.nameKeys()
		err = c.Validate()
	}
	if err != nil && file != "" {
		return nil, fmt.Errorf("config %s: %w", file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return &c, nil
}

// wholeDurations refuses a number where a duration is wanted: 5 would mean
// nanoseconds.
func wholeDurations(from, to reflect.Type, value any) (any, error) {
	if to == reflect.TypeFor[time.Duration]() && from != to && from.Kind() != reflect.String {
		return nil, fmt.Errorf("%v is not a duration such as \"5s\"", value)
	}
	return value, nil
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9._-])?$`)

const nameRule = "only letters, digits and . _ / - are allowed, 128 at most, beginning with a letter or digit and not ending with a slash"

func validName(name string) bool {
	return namePattern.MatchString(name) && !strings.Contains(name, "..")
}

// Validate reports everything that is wrong, each with its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if _, _, err := net.SplitHostPort(c.Server.Addr); err != nil {
		bad("server.addr", "%q is not host:port", c.Server.Addr)
	}
	if c.Server.MaxBodyBytes < 1024 {
		bad("server.max_body_bytes", "%d is below 1024", c.Server.MaxBodyBytes)
	}
	if !sendable(c.Server.AdminKey) {
		bad("server.admin_key", "%s", keyRule)
	}
	for key, d := range map[string]time.Duration{
		"server.body_timeout": c.Server.BodyTimeout, "server.shutdown_timeout": c.Server.ShutdownTimeout, "adapters.load_timeout": c.Adapters.LoadTimeout,
		"adapters.unload_timeout": c.Adapters.UnloadTimeout, "adapters.settle": c.Adapters.Settle,
	} {
		if d <= 0 {
			bad(key, "%s is not above 0", d)
		}
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, c.Log.Level) {
		bad("log.level", "%q is none of %s", c.Log.Level, strings.Join(levels, ", "))
	}
	if formats := []string{"text", "json"}; !slices.Contains(formats, c.Log.Format) {
		bad("log.format", "%q is none of %s", c.Log.Format, strings.Join(formats, ", "))
	}
	c.Server.validateKeys(bad)
	for i, origin := range c.Server.CORSOrigins {
		if !validOrigin(origin) {
			bad(fmt.Sprintf("server.cors_origins[%d]", i), "%q is neither * nor an origin such as https://app.example.com", origin)
		}
	}
	c.Adapters.validate(c.Models, bad)
	seen := map[string]bool{}
	for i := range c.Models {
		if name := c.Models[i].Name; seen[name] {
			bad(fmt.Sprintf("models[%d].name", i), "model name %q is used twice", name)
		} else {
			seen[name] = true
		}
		c.Models[i].validate(fmt.Sprintf("models[%d]", i), bad)
	}
	return errors.Join(errs...)
}

func (a *Adapters) validate(models []Model, bad func(key, format string, args ...any)) {
	if a.HostBytes < 0 {
		bad("adapters.host_bytes", "%d is below 0", a.HostBytes)
	}
	a.Limits.validate("adapters", bad)
	if a.Dir != "" {
		if err := isDir(a.Dir); err != nil {
			bad("adapters.dir", "%v", err)
		}
	}
	for i, root := range a.Roots {
		if err := isDir(root); err != nil {
			bad(fmt.Sprintf("adapters.roots[%d]", i), "%v", err)
		}
	}
	seen := map[string]bool{}
	for i, e := range a.Entries {
		key := fmt.Sprintf("adapters.entries[%d]", i)
		switch {
		case !validName(e.Name):
			bad(key+".name", "%q: %s", e.Name, nameRule)
		case seen[e.Model+":"+e.Name]:
			bad(key+".name", "adapter name %q is used twice", e.Name)
		}
		seen[e.Model+":"+e.Name] = true
		e.validate(key, bad)
		if e.Path == "" {
			bad(key+".path", "is missing")
		} else if _, err := os.Stat(e.Path); err != nil {
			bad(key+".path", "%s can't be opened", e.Path)
		}
		switch {
		case e.Model == "" && len(models) > 1:
			bad(key+".model", "is missing: there are several models")
		case e.Model != "" && !slices.ContainsFunc(models, func(m Model) bool { return m.Name == e.Model }):
			bad(key+".model", "%q is none of the models", e.Model)
		}
	}
}

func (m *Model) validate(key string, bad func(key, format string, args ...any)) {
	if !validName(m.Name) {
		bad(key+".name", "%q: %s", m.Name, nameRule)
	}
	if m.Path == "" {
		bad(key+".path", "is missing")
	}
	for _, n := range []struct {
		name             string
		value, low, high int
	}{
		{"context", m.Context, 0, 1 << 22}, {"sequences", m.Sequences, 0, 256}, {"cache_tokens", m.CacheTokens, 0, 1 << 26},
		{"queue", m.Queue, 0, 1 << 20}, {"queue_tokens", m.QueueTokens, 0, 1 << 30}, {"step_tokens", m.StepTokens, 0, 1 << 16},
		{"threads", m.Threads, 0, 1024}, {"slots", m.Slots, -1, 1024}, {"max_rank", m.MaxRank, 0, 512},
	} {
		if n.value < n.low || n.value > n.high {
			bad(key+"."+n.name, "%d is not between %d and %d", n.value, n.low, n.high)
		}
	}
	if m.Stretch != 0 && !(m.Stretch >= 1.1 && m.Stretch <= 100) {
		bad(key+".prompt_stretch", "%v is not between 1.1 and 100", m.Stretch)
	}
	if n := m.GPULayers; n != nil && (*n < -1 || *n > 1<<16) {
		bad(key+".gpu_layers", "%d is not between -1 and %d", *n, 1<<16)
	}
	if modes := []string{"", "auto", "on", "off"}; !slices.Contains(modes, m.FlashAttention) {
		bad(key+".flash_attention", "%q is none of auto, on, off", m.FlashAttention)
	}
	if types := []string{"", "f16", "f32"}; !slices.Contains(types, m.KVCacheType) {
		bad(key+".kv_cache_type", "%q is none of f16, f32", m.KVCacheType)
	}
	if poolings := []string{"", "last", "mean"}; !slices.Contains(poolings, m.Pooling) {
		bad(key+".pooling", "%q is none of last, mean", m.Pooling)
	}
	if m.AdaptersDir != "" {
		if err := isDir(m.AdaptersDir); err != nil {
			bad(key+".adapters_dir", "%v", err)
		}
	}
	if m.ChatTemplate != "" {
		if _, err := os.Stat(m.ChatTemplate); err != nil {
			bad(key+".chat_template", "%s can't be opened", m.ChatTemplate)
		}
	}
}

func isDir(path string) error {
	st, err := os.Stat(path)
	var pathError *fs.PathError
	switch {
	case errors.As(err, &pathError):
		return fmt.Errorf("%s: %w", path, pathError.Err)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s: is not a folder", path)
	}
	return nil
}

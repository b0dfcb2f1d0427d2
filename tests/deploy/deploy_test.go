// Package deploy checks what is shipped to run Lorikeet elsewhere: the compose files and
// the Dockerfile. It builds no image.
package deploy

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"lorikeet/config"
)

const (
	root        = "../../"
	composeFile = root + "docker-compose.yml"
	gpuFile     = root + "docker-compose.gpu.yml"
	dockerfile  = root + "deploy/Dockerfile"
)

// service is what the tests look at.
type service struct {
	Build struct {
		Context, Dockerfile, Target string
		Args                        map[string]string
	}
	User            string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	CapAdd          []string `yaml:"cap_add"`
	SecurityOpt     []string `yaml:"security_opt"`
	Privileged      bool
	Tmpfs           []string
	Volumes         []string
	Ports           []string
	StopGracePeriod string `yaml:"stop_grace_period"`
	Healthcheck     struct {
		Test []string
	}
	Deploy struct {
		Resources struct {
			Reservations struct {
				Devices []struct {
					Driver       string
					Count        string
					Capabilities []string
				}
			}
		}
	}
}

func load(t *testing.T, file string) service {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ Services map[string]service }
	if err := yaml.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	s, ok := c.Services["lorikeet"]
	if !ok || len(c.Services) != 1 {
		t.Fatalf("%s has the services %v", file, c.Services)
	}
	return s
}

func TestComposeIsLocked(t *testing.T) {
	s := load(t, composeFile)
	if !regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`).MatchString(s.User) {
		t.Errorf("user %q is no fixed id other than root's", s.User)
	}
	if !s.ReadOnly || s.Privileged || len(s.CapAdd) > 0 || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || !slices.Contains(s.Tmpfs, "/tmp") {
		t.Errorf("not locked: %+v", s)
	}
	if !slices.Contains(s.Volumes, "./models:/models:ro") || !slices.Contains(s.Volumes, "./adapters-data:/adapters") {
		t.Errorf("volumes %v: models are read, adapters are written", s.Volumes)
	}
	for _, p := range s.Ports {
		if !strings.HasPrefix(p, "127.0.0.1:") {
			t.Errorf("port %s is open to the network", p)
		}
	}
	if !slices.Equal(s.Healthcheck.Test, []string{"CMD", "lorikeet", "healthcheck"}) {
		t.Errorf("health is checked by %v", s.Healthcheck.Test)
	}
}

// Streams may take as long as the server lets them before it is killed.
func TestGraceIsAboveTheDrain(t *testing.T) {
	grace, err := time.ParseDuration(load(t, composeFile).StopGracePeriod)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if grace <= cfg.Server.ShutdownTimeout {
		t.Errorf("stop_grace_period is %s, server.shutdown_timeout %s", grace, cfg.Server.ShutdownTimeout)
	}
}

// The file for GPUs adds a GPU and takes no lock away; the other asks for none.
func TestGPUOverride(t *testing.T) {
	s := load(t, gpuFile)
	devices := s.Deploy.Resources.Reservations.Devices
	if len(devices) != 1 || devices[0].Driver != "nvidia" || devices[0].Count != "all" || !slices.Equal(devices[0].Capabilities, []string{"gpu"}) {
		t.Errorf("reservation %+v", devices)
	}
	if s.User != "" || s.ReadOnly || s.CapDrop != nil || s.CapAdd != nil || s.SecurityOpt != nil || s.Privileged || s.Volumes != nil || s.StopGracePeriod != "" || s.Healthcheck.Test != nil {
		t.Errorf("it changes more than the GPU: %+v", s)
	}
	if d := load(t, composeFile).Deploy.Resources.Reservations.Devices; d != nil {
		t.Errorf("docker-compose.yml wants %+v", d)
	}
}

// What the compose files build is in the Dockerfile; no target means the CPU.
func TestTargets(t *testing.T) {
	data, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	var stages []string
	for _, m := range regexp.MustCompile(`(?m)^FROM \S+ AS (\S+)$`).FindAllStringSubmatch(string(data), -1) {
		stages = append(stages, m[1])
	}
	cpu, gpu := load(t, composeFile), load(t, gpuFile)
	if cpu.Build.Target != "cpu" || gpu.Build.Target != "cuda" || !slices.Contains(stages, "cuda") || len(stages) == 0 || stages[len(stages)-1] != "cpu" {
		t.Errorf("targets %q and %q of stages %v", cpu.Build.Target, gpu.Build.Target, stages)
	}
	for arg := range gpu.Build.Args {
		if !regexp.MustCompile(`(?m)^ARG ` + arg + `=`).Match(data) {
			t.Errorf("the Dockerfile knows no argument %s", arg)
		}
	}
	// Each image that is run, not only built with, has a user of its own.
	for _, stage := range []string{"cuda", "cpu"} {
		_, body, _ := strings.Cut(string(data), " AS "+stage+"\n")
		body, _, _ = strings.Cut(body, "\nFROM ")
		if !strings.Contains(body, "\nUSER 10001\n") || !strings.Contains(body, `CMD ["lorikeet", "healthcheck"]`) {
			t.Errorf("stage %s runs as root or has no health check", stage)
		}
	}
}

// Docker's own client accepts the files, alone and together.
func TestComposeConfig(t *testing.T) {
	client := composeClient()
	if client == nil {
		t.Skip("neither docker compose nor docker-compose is installed")
	}
	for _, files := range [][]string{{composeFile}, {composeFile, gpuFile}} {
		args := slices.Clone(client[1:])
		for _, f := range files {
			args = append(args, "-f", f)
		}
		out, err := exec.CommandContext(t.Context(), client[0], append(args, "config")...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", files, err, out)
		}
		if gpu := len(files) > 1; strings.Contains(string(out), "driver: nvidia") != gpu || !strings.Contains(string(out), "no-new-privileges:true") || !strings.Contains(string(out), "read_only: true") {
			t.Errorf("%v:\n%s", files, out)
		}
	}
}

func composeClient() []string {
	if exec.Command("docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	if exec.Command("docker-compose", "version").Run() == nil {
		return []string{"docker-compose"}
	}
	return nil
}

package sdk

import (
	"os"
	"os/exec"
	"testing"
)

func TestJava(t *testing.T) {
	if _, err := exec.LookPath("mvn"); err != nil {
		t.Skip("Maven is not installed, so there is no Java client")
	}
	jar, lib := installed(t, "../../build/java/check.jar"), installed(t, "../../build/java/lib")
	check(t, ".", "java", "-cp", jar+string(os.PathListSeparator)+lib+"/*", "Check")
}

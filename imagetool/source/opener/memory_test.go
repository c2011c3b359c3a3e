package opener_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// asTool has the test's program be imagetool.
const asTool = "INETBOOT_TEST_IMAGETOOL"

func TestMain(m *testing.M) {
	if os.Getenv(asTool) == "" {
		os.Exit(m.Run())
	}
	code := command.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		os.Stderr.Write(status)
	}
	os.Exit(code)
}

// imagetool runs the program as a process of its own, and returns the most
// memory that it had, in bytes, and how long it computed.
func imagetool(t *testing.T, stdin string, args ...string) (int64, time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asTool+"=1")
	if stdin != "" {
		f, err := os.Open(stdin)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdin = f
	}
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("imagetool %s: %v\n%s", strings.Join(args, " "), err, messages.Bytes())
	}
	for line := range strings.Lines(messages.String()) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
	}
	t.Fatalf("no VmHWM in\n%s", messages.Bytes())
	return 0, 0
}

// TestLargeSparseSource pushes files of 20 GB that are holes but for some
// bytes: in a directory, and in tarballs with their holes marked.
func TestLargeSparseSource(t *testing.T) {
	const size, most = 20 << 30, 512 << 20
	dir := t.TempDir()
	testtree.Fill(t, dir, 1)
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 7<<30 + 12345, size - 4} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	conf, st, program := filepath.Join(t.TempDir(), "conf.json"), filepath.Join(t.TempDir(), "store"), testtree.Program(t)
	imagetool(t, "", "--config", conf, "init", "--no-passphrase", "--to", st)

	gnu := filepath.Join(t.TempDir(), "gnu.tar")
	run(t, "tar", "--create", "--sparse", "--format=gnu", "--file="+gnu, "--directory="+dir, ".")
	pax := makeTar(t, dir, "--sparse")
	for i, tc := range []struct{ name, source, stdin string }{
		{"directory", dir, ""}, {"GNU", gnu, ""}, {"pax, standard input", "-", pax},
	} {
		tmp := t.TempDir()
		peak, computed := imagetool(t, tc.stdin, "--config", conf, "push", tc.source, "--name", "large", "--version", fmt.Sprint(i),
			"--blockfs", program, "--tmp", tmp)
		t.Logf("%s: %v, %d MB", tc.name, computed.Round(time.Millisecond), peak>>20)
		if peak > most {
			t.Errorf("%s: %d MB of memory; want at most %d", tc.name, peak>>20, most>>20)
		}
		// Hashing 20 GB alone takes longer.
		if computed > 15*time.Second && !underRace {
			t.Errorf("%s: took %v of the processor's time", tc.name, computed)
		}
		if underRace {
			break // the tarballs' holes take minutes then
		}
	}
	// The holes are not in the store either, and all are the same image.
	stored := int64(0)
	if err := filepath.WalkDir(st, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		stored += fi.Size()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if stored > 64<<20 {
		t.Errorf("%d MB are stored; want little", stored>>20)
	}
}

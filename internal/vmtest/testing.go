package vmtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// StartT starts a machine for a test and ends it with the test. If the test
// fails, the QEMU command and the end of the console are printed and the
// console's log is kept.
func StartT(t *testing.T, c Config) *VM {
	t.Helper()
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "inetboot-vm-*")
		if err != nil {
			t.Fatal(err)
		}
		c.Dir = dir
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("console log: %s", filepath.Join(dir, "console.log"))
			} else {
				os.RemoveAll(dir)
			}
		})
	}
	v, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		v.Close()
		if t.Failed() {
			t.Logf("QEMU command:\n%s\nconsole:\n%s", v.Command, v.Tail(60))
		}
	})
	return v
}

// ExpectT is [Console.ExpectWithin] for tests: it ends the test if the text
// does not come within the given number of seconds.
func (v *VM) ExpectT(t *testing.T, seconds int, pattern string) []string {
	t.Helper()
	m, err := v.ExpectWithin(t.Context(), duration(seconds), pattern)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// SendT is [Console.Send] for tests.
func (v *VM) SendT(t *testing.T, text string) {
	t.Helper()
	if err := v.Send(text); err != nil {
		t.Fatal(err)
	}
}

func duration(seconds int) time.Duration { return time.Duration(seconds) * time.Second }

// Package boottest boots a real Debian in virtual machines, from the boot
// medium over HTTP to the login prompt, and tries to make the machines boot
// what they must refuse.
package boottest

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// buildDir is the folder with the programs and the boot medium.
func buildDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("INETBOOT_BUILD")
	if dir == "" {
		dir = filepath.Join("..", "..", "build")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "inetboot.iso")); err != nil {
		t.Fatalf("%v: use `make boot-test`, which builds what these tests boot", err)
	}
	return dir
}

// newBed starts a server with the Debian on it.
func newBed(t *testing.T) (*testbed.Bed, string) {
	t.Helper()
	tarball, err := debianroot.Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return startBed(t, testbed.Options{Source: tarball}), tarball
}

// emptyBed starts a server without an image.
func emptyBed(t *testing.T) *testbed.Bed {
	t.Helper()
	return startBed(t, testbed.Options{})
}

func startBed(t *testing.T, o testbed.Options) *testbed.Bed {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	o.Build, o.Dir, o.Log = buildDir(t), t.TempDir(), log
	bed, err := testbed.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
		log.Close()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("imagetool and server:\n%s", text)
			}
		}
	})
	media(t, bed, bed.GuestURL)
	return bed
}

// pushSystem publishes one of the small systems as version 1.
func pushSystem(t *testing.T, bed *testbed.Bed, s debianroot.System) {
	t.Helper()
	tarball, err := s.Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := bed.Imagetool(t.Context(), "push", tarball, "--name", s.Name, "--version", "1", "--level", "1"); err != nil {
		t.Fatal(err)
	}
}

// media writes the ISO anew, for stores at the given URLs, without a clock:
// nothing boots before the test says so, however busy this machine is.
func media(t *testing.T, bed *testbed.Bed, url string, more ...string) {
	t.Helper()
	args := []string{"--timeout=-1"}
	for _, u := range more {
		args = append(args, "--url", u)
	}
	if err := bed.Media(t.Context(), bed.ISO, url, args...); err != nil {
		t.Fatal(err)
	}
}

// startEntry starts a machine with one card and boots the entry of that number
// in the menu. It returns the file with what went over the card, too.
func startEntry(t *testing.T, c vmtest.Config, number, entry string) (*vmtest.VM, string) {
	t.Helper()
	pcap := filepath.Join(t.TempDir(), "pcap")
	c.NoReboot, c.NICs = true, []vmtest.NIC{{Capture: pcap}}
	vm := vmtest.StartT(t, c)
	vm.ExpectT(t, 600, `inetboot: menu ready`)
	vm.SendT(t, number+"\r")
	vm.ExpectT(t, 600, `inetboot: starting `+entry+`\n`)
	begin := time.Now()
	vm.ExpectT(t, 600, `inetboot: starting /`)
	t.Logf("%s: its init starts %.0f s after the menu", entry, time.Since(begin).Seconds())
	return vm, pcap
}

// tarSums returns the hash of every regular file below some folders.
func tarSums(t *testing.T, tarball string, newHash func() hash.Hash, dirs ...string) map[string]string {
	t.Helper()
	f, err := os.Open(tarball)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sums := make(map[string]string)
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return sums
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if !slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(name, d+"/") }) {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
			sum := newHash()
			if _, err := io.Copy(sum, r); err != nil {
				t.Fatal(err)
			}
			sums["/"+name] = hex.EncodeToString(sum.Sum(nil))
		case tar.TypeLink:
			sums["/"+name] = sums["/"+strings.TrimPrefix(h.Linkname, "./")]
		}
	}
}

// shell runs commands in a machine, over its serial console.
type shell struct {
	vm *vmtest.VM
	n  int
}

// login waits for the login prompt and logs in as root.
func login(t *testing.T, vm *vmtest.VM, seconds int) *shell {
	t.Helper()
	return loginWith(t, vm, seconds, "stty -echo; export TERM=dumb PS1=; bind 'set enable-bracketed-paste off'")
}

// loginWith says what makes the shell quiet.
func loginWith(t *testing.T, vm *vmtest.VM, seconds int, quiet string) *shell {
	t.Helper()
	vm.ExpectT(t, seconds, `login: `)
	vm.SendT(t, "root\n")
	vm.ExpectT(t, 600, `Password: `)
	vm.SendT(t, debianroot.Password+"\n")
	vm.ExpectT(t, 600, `# $`)
	s := &shell{vm: vm}
	s.run(t, 300, quiet)
	return s
}

// run returns what a command prints. It must succeed.
func (s *shell) run(t *testing.T, seconds int, command string) string {
	t.Helper()
	return s.start(t, command)(seconds)
}

// start has a command run; end returns what it prints. It must succeed.
func (s *shell) start(t *testing.T, command string) (end func(seconds int) string) {
	t.Helper()
	s.n++
	n := s.n
	// What is typed is not what is printed: the quotes are missing there.
	s.vm.SendT(t, fmt.Sprintf("echo '<'%d; %s; echo '>'%d:$?\n", n, command, n))
	return func(seconds int) string {
		t.Helper()
		m := s.vm.ExpectT(t, seconds, fmt.Sprintf(`(?s)<%d\n(.*?)>%d:(\d+)\n`, n, n))
		if m[2] != "0" {
			t.Fatalf("%s: exit code %s: %s", command, m[2], m[1])
		}
		return strings.TrimSpace(kernelLine.ReplaceAllString(m[1], ""))
	}
}

// kernelLine is what the kernel says on the same console, wherever the output
// of a command was at that moment.
var kernelLine = regexp.MustCompile(`\[ *\d+\.\d{6}\] [^\n]*\n?`)

package manager

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// takerVariable has the test program be the service that takes files.
const takerVariable = "INETBOOT_TEST_TAKES_FILES"

func TestMain(m *testing.M) {
	if os.Getenv(takerVariable) == "" {
		os.Exit(m.Run())
	}
	files, err := Take()
	for _, f := range files {
		content, rerr := io.ReadAll(f)
		fmt.Printf("%s: %q %v\n", f.Name, content, rerr)
	}
	again, _ := Take()
	fmt.Println(err, len(again))
}

// listen makes a notification socket, and has what is sent be read by receive.
func listen(t *testing.T) (receive func() (string, *os.File)) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() (string, *os.File) {
		t.Helper()
		b, oob := make([]byte, 4096), make([]byte, 100)
		n, on, _, _, err := conn.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:on])
		if err != nil || len(messages) == 0 {
			return string(b[:n]), nil
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("%d files are passed, %v", len(fds), err)
		}
		return string(b[:n]), os.NewFile(uintptr(fds[0]), "passed")
	}
}

func TestKeepAndTake(t *testing.T) {
	if t.Setenv("NOTIFY_SOCKET", ""); Keeps() || Notify("READY=1") != nil {
		t.Error("without a service manager, one keeps files, or telling it fails")
	}
	receive := listen(t)
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	if got, f := receive(); got != "READY=1" || f != nil || !Keeps() {
		t.Errorf("told %q, %v", got, f)
	}
	var passed []*os.File
	for i, name := range []string{"one", "two", "two"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, "content %d", i)
		if err := Keep(name, r); err != nil {
			t.Fatal(err)
		}
		r.Close()
		w.Close()
		got, f := receive()
		if got != "FDSTORE=1\nFDNAME="+name || f == nil {
			t.Fatalf("told %q, %v", got, f)
		}
		defer f.Close()
		passed = append(passed, f)
	}
	for _, bad := range []string{"", "a:b", "a\nb", "ä", strings.Repeat("x", 256)} {
		if err := Keep(bad, passed[0]); err == nil {
			t.Errorf("the name %.10q is taken", bad)
		}
	}

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ pid, want string }{
		{"$$", "one: \"content 0\" <nil>\ntwo: \"content 1\" <nil>\ntwo: \"content 2\" <nil>\n<nil> 0\n"},
		{"1", "<nil> 0\n"}, // for another process
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=`+tt.pid+` exec "$0"`, exe)
		cmd.Env = append(os.Environ(), takerVariable+"=1", "LISTEN_FDS=3", "LISTEN_FDNAMES=one:two:two")
		cmd.ExtraFiles = passed
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != tt.want {
			t.Errorf("LISTEN_PID=%s: %v\n%s want\n%s", tt.pid, err, out, tt.want)
		}
		if tt.pid != "$$" {
			break
		}
		for _, name := range []string{"one", "two"} {
			if got, _ := receive(); got != "FDSTOREREMOVE=1\nFDNAME="+name {
				t.Errorf("told %q; want that %s is removed", got, name)
			}
		}
	}
}

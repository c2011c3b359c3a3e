package boottest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/vmtest"
)

// manager is a service manager that keeps files for a service while it is
// started anew, as systemd does with FileDescriptorStoreMax=.
type manager struct {
	socket string

	mu   sync.Mutex
	kept []keptFile
}

type keptFile struct {
	name string
	file *os.File
}

// newManager takes notifications in a folder that every user can pass to.
func newManager(t *testing.T, dir string) *manager {
	t.Helper()
	m := &manager{socket: filepath.Join(dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.socket, 0o777); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			b, oob := make([]byte, 4096), make([]byte, 100)
			n, on, _, _, err := conn.ReadMsgUnix(b, oob)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				err = m.told(string(b[:n]), oob[:on])
			}
			if err != nil {
				t.Errorf("service manager: %v", err)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		done.Wait()
		for _, k := range m.kept {
			k.file.Close()
		}
	})
	return m
}

// told takes one notification (sd_notify(3)).
func (m *manager) told(text string, oob []byte) error {
	_, name, named := strings.Cut(text, "\nFDNAME=")
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.HasPrefix(text, "FDSTORE=1\n") && named:
		messages, err := unix.ParseSocketControlMessage(oob)
		if err != nil || len(messages) != 1 {
			return fmt.Errorf("%q: %d messages, %w", text, len(messages), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return err
		}
		for _, fd := range fds {
			m.kept = append(m.kept, keptFile{name, os.NewFile(uintptr(fd), name)})
		}
	case strings.HasPrefix(text, "FDSTOREREMOVE=1\n") && named:
		var rest []keptFile
		for _, k := range m.kept {
			if k.name != name {
				rest = append(rest, k)
			} else if err := k.file.Close(); err != nil {
				return err
			}
		}
		m.kept = rest
	}
	return nil
}

// run starts a service on the LAN with what is kept (sd_listen_fds(3)), and
// waits until it says something.
func (m *manager) run(t *testing.T, lan *vmtest.LAN, says string, args ...string) *program {
	t.Helper()
	cmd := lan.Command(t.Context(), "sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, args...)...)
	m.mu.Lock()
	var names []string
	for _, k := range m.kept {
		names = append(names, k.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, k.file)
	}
	m.mu.Unlock()
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.socket, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return run(t, cmd, says)
}

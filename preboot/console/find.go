package console

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// searchTime is the time between two searches for consoles: a USB adapter may
// be plugged in later.
const searchTime = 3 * time.Second

// Attach opens the machine's consoles and goes on to look for new ones until
// ctx ends. At its return those that are there are in use.
func (s *Set) Attach(ctx context.Context) {
	s.search("/sys/class/tty", "/dev")
	go func() {
		tick := time.NewTicker(searchTime)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.search("/sys/class/tty", "/dev")
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (s *Set) search(sys, dev string) {
	active := activeConsoles(sys)
	known := s.Names()
	for _, name := range find(sys, active) {
		if !contains(known, name) {
			if f, size, restore, err := open(filepath.Join(dev, name), !contains(active, name)); err == nil {
				s.Add(name, f, size, restore)
			}
		}
	}
}

// find returns the terminals to use: the first virtual terminal, every serial
// port behind which there is hardware, and whatever else the kernel uses as
// console.
func find(sys string, active []string) []string {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == "tty1":
			names = append(names, name)
		case strings.HasPrefix(name, "ttyS"):
			// The driver makes ports for hardware that is not there; they are of
			// type 0 (PORT_UNKNOWN, linux/serial_core.h).
			typ, err := os.ReadFile(filepath.Join(sys, name, "type"))
			if err == nil && strings.TrimSpace(string(typ)) != "0" {
				names = append(names, name)
			}
		case contains(active, name) && !isVirtual(name):
			names = append(names, name)
		}
	}
	return names
}

// activeConsoles returns the kernel's own consoles.
func activeConsoles(sys string) []string {
	b, err := os.ReadFile(filepath.Join(sys, "console", "active"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// isVirtual tells whether name is tty0, tty1 and so on.
func isVirtual(name string) bool {
	n, ok := strings.CutPrefix(name, "tty")
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// open opens a terminal in raw mode. A serial port that is no console of the
// kernel is set to 115200 8N1, which is what most firmware uses; the others
// keep the kernel's speed.
func open(path string, setSpeed bool) (Device, Size, func(), error) {
	// Without O_NONBLOCK opening a serial port waits for its carrier.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, Size{}, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		unix.Close(fd)
		return nil, Size{}, nil, &os.PathError{Op: "read the settings of", Path: path, Err: err}
	}
	raw := *was
	raw.Iflag &^= unix.BRKINT | unix.ICRNL | unix.IGNCR | unix.INLCR | unix.INPCK | unix.ISTRIP | unix.IXON | unix.IXOFF | unix.PARMRK
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB | unix.CRTSCTS
	raw.Cflag |= unix.CS8 | unix.CLOCAL | unix.CREAD
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if setSpeed && strings.Contains(path, "ttyS") {
		raw.Cflag = raw.Cflag&^unix.CBAUD | unix.B115200
		raw.Ispeed, raw.Ospeed = unix.B115200, unix.B115200
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		unix.Close(fd)
		return nil, Size{}, nil, &os.PathError{Op: "set", Path: path, Err: err}
	}
	size := sizeReported(fd)
	if size.Columns*size.Rows > smallCells && enlargeFont(fd) == nil { // or it is read as it is
		size = sizeReported(fd)
	}
	f := os.NewFile(uintptr(fd), path)
	restore := func() {
		// The descriptor stays valid until Close, which comes after this.
		_ = f.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = f.WriteString("\x1b[0m\x1b[?25h")
		conn, err := f.SyscallConn()
		if err != nil {
			return
		}
		_ = conn.Control(func(fd uintptr) {
			drain(int(fd))
			_ = unix.IoctlSetTermios(int(fd), unix.TCSETS, was)
		})
	}
	return &tty{f}, size, restore, nil
}

// sizeReported is what a terminal says of its size. Only screens know theirs.
func sizeReported(fd int) Size {
	w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return Size{}
	}
	return Size{int(w.Col), int(w.Row)}
}

// tty is a terminal of the kernel.
type tty struct{ *os.File }

var _ queued = (*tty)(nil)

// Queued asks the driver. One that does not know has nothing.
func (t *tty) Queued() int {
	n := 0
	conn, err := t.SyscallConn()
	if err != nil {
		return 0
	}
	// An error is that the terminal has been closed, or of the driver.
	_ = conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
	return max(n, 0)
}

// drain waits, half a second at most, until the terminal's buffer is empty.
// TCSBRK would wait without limit.
func drain(fd int) {
	for range 50 {
		n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		if err != nil || n == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

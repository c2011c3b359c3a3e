package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lasting does to the machine what a daemon has to survive, and tells after
// each step whether every byte can still be read.
type lasting struct {
	store string // URL of the store, which takes orders, too
	pid   int    // of the daemon
	start time.Time
	turn  int // of read
}

// minUptime is how long the machine is up at least, so that its lease is due
// after the clock was set.
const minUptime = 130 * time.Second

func (l *lasting) run() error {
	l.start = time.Now()
	debug.SetMemoryLimit(12 << 20)
	pid, err := os.ReadFile("/run/sendsigs.omit.d/inetboot")
	if err != nil {
		return err
	}
	if l.pid, err = strconv.Atoi(strings.TrimSpace(string(pid))); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"clock ten years on", func() error { return l.clock(10, "/fresh/0") }},
		{"clock twenty years back", func() error { return l.clock(-20, "/fresh/1") }},
		{"where its paths lead", l.paths},
		{"signals", l.signals},
		{"squeeze", l.squeeze},
		{"out of memory", l.storm},
		{"outage", l.outage},
		{"idle", l.idle},
	} {
		at := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		took := time.Since(at)
		if err := l.read(); err != nil {
			return fmt.Errorf("after %s: %w", step.name, err)
		}
		fmt.Printf("GUEST survived %s, %.1f s and %.1f s of reading\n", step.name, took.Seconds(), time.Since(at).Seconds()-took.Seconds())
	}
	time.Sleep(minUptime - time.Since(l.start))
	fmt.Println("GUEST has run long enough")
	if err := l.memory(); err != nil {
		return err
	}
	return l.sysvinit()
}

// shares is into how many parts the files are divided: one is read after each
// step, past the page cache, another one each time.
const shares = 5

func (l *lasting) read() error {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	l.turn++
	return readSums("/sums", l.turn%shares, shares)
}

// readSums reads the files of a list whose number is first, first+step, …, and
// compares their hashes.
func readSums(list string, first, step int) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	n := 0
	buf := make([]byte, 256<<10)
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		if n%step != first {
			continue
		}
		want, name, _ := strings.Cut(s.Text(), " ")
		if err := check(name, want, buf); err != nil {
			return err
		}
	}
	if n < step {
		return errors.New("there are too few files")
	}
	return nil
}

func check(name, want string, buf []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, buf); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, want %s", name, got, want)
	}
	return nil
}

// paths shows that no path that a library of the daemon opens, such as
// /etc/hosts, leads to the filesystem that it serves, nor any memory of it.
func (l *lasting) paths() error {
	proc := fmt.Sprintf("/proc/%d/", l.pid)
	for _, name := range []string{"root/sums", "root/etc/hosts", "root/files", "cwd/sums"} {
		if _, err := os.Stat(proc + name); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: %v; want nothing there", proc+name, err)
		}
	}
	maps, err := os.ReadFile(proc + "maps")
	if err != nil {
		return err
	}
	files := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[5], "/") {
			files[f[5]] = true
		}
	}
	if len(files) != 1 || !files["/run/initramfs/shutdown"] {
		return fmt.Errorf("memory of the daemon lies in %v", files)
	}
	fds, err := filepath.Glob(proc + "fd/*")
	if err != nil {
		return err
	}
	var list []string
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil {
			return err
		}
		if strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/dev/") && !strings.HasPrefix(to, "/run/initramfs/") && !strings.HasSuffix(to, "/status") {
			return fmt.Errorf("the daemon has %s open", to)
		}
		list = append(list, to)
	}
	fmt.Printf("GUEST the daemon has open %q\n", list)
	return nil
}

// clock sets the clock by some years, and reads what was never read before.
func (l *lasting) clock(years int, fresh string) error {
	now := time.Now().AddDate(years, 0, 0)
	tv := unix.NsecToTimeval(now.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return err
	}
	fmt.Println("GUEST clock is at", now.Year())
	return readSums(fresh+"/sums", 0, 1)
}

// signals sends all there are, but for those that nothing can survive, and
// those that only a fault of the daemon's own raises.
func (l *lasting) signals() error {
	if err := unix.Kill(-1, unix.SIGTERM); err != nil {
		return err
	}
	own := []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS}
	for sig := unix.Signal(1); sig <= 64; sig++ {
		if slices.Contains(own, sig) {
			continue
		}
		if err := unix.Kill(l.pid, sig); err != nil {
			return fmt.Errorf("signal %d: %w", sig, err)
		}
		time.Sleep(10 * time.Millisecond)
		state, err := l.state()
		if err != nil || state == "T" || state == "Z" {
			return fmt.Errorf("after signal %d the daemon is in state %q: %v", sig, state, err)
		}
	}
	return nil
}

// stat returns the fields of /proc/PID/stat from the state on (proc(5)).
func (l *lasting) stat() ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.pid))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])), nil
}

func (l *lasting) state() (string, error) {
	f, err := l.stat()
	if err != nil {
		return "", err
	}
	return f[0], nil
}

// child starts this program as something else.
func child(oom int, args ...string) (*exec.Cmd, error) {
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{"guest"}, args...)
	c.Stdout = os.Stdout
	c.Stderr = os.Stdout
	if err := c.Start(); err != nil {
		return nil, err
	}
	return c, os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", c.Process.Pid), []byte(strconv.Itoa(oom)), 0)
}

// Children.
const (
	childHog    = "hog"    // takes memory for ever
	childSleep  = "sleep"  // takes what there is but for some MB, and keeps it
	childReader = "reader" // reads all files
	childDeaf   = "deaf"   // does nothing, and does not end by SIGTERM
)

// deafFile is made by childDeaf when it does not hear any more.
const deafFile = "/run/deaf"

func runChild(args []string) error {
	const piece = 4 << 20
	switch args[0] {
	case childHog, childSleep:
		for {
			if args[0] == childSleep && available() < 20<<20 {
				fmt.Println("GUEST memory is taken")
				for {
					time.Sleep(time.Hour)
				}
			}
			// Filled by the kernel, or the program would wait for its own pages.
			if _, err := unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE); err != nil {
				return err
			}
		}
	case childReader:
		debug.SetMemoryLimit(8 << 20)
		return readSums("/sums", 0, 1)
	case childDeaf:
		signal.Ignore(unix.SIGTERM)
		if err := os.WriteFile(deafFile, nil, 0o600); err != nil {
			return err
		}
		for {
			time.Sleep(time.Hour)
		}
	}
	return fmt.Errorf("what is %q?", args)
}

// available returns the bytes of memory that could be had.
func available() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

// squeeze takes nearly all memory, and reads with what is left.
func (l *lasting) squeeze() error {
	hog, err := child(1000, childSleep)
	if err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); available() > 20<<20 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Printf("GUEST memory left: %d kB\n", available()>>10)
	err = l.read()
	_ = hog.Process.Kill()
	var ended *exec.ExitError
	if werr := hog.Wait(); !errors.As(werr, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		return fmt.Errorf("the memory was not held to the end: %w", werr)
	}
	return err
}

// storm lets some processes take memory until the kernel kills them, while
// another one reads.
func (l *lasting) storm() error {
	reader, err := child(-900, childReader)
	if err != nil {
		return err
	}
	killed := 0
	var hogs []*exec.Cmd
	for range 4 {
		h, err := child(1000, childHog)
		if err != nil {
			return err
		}
		hogs = append(hogs, h)
	}
	for _, h := range hogs {
		_ = h.Wait()
		if s, ok := h.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == unix.SIGKILL {
			killed++
		}
	}
	if err := reader.Wait(); err != nil {
		return fmt.Errorf("reader: %w", err)
	}
	fmt.Printf("GUEST %d of 4 killed for want of memory\n", killed)
	if killed < 4 {
		return errors.New("memory was not short enough")
	}
	return nil
}

// outage has the store hang, refuse, and come back, and reads meanwhile.
func (l *lasting) outage() error {
	resp, err := http.Get(l.store + "/outage")
	if err != nil {
		return err
	}
	resp.Body.Close()
	before := l.threads()
	at := time.Now()
	if err := l.read(); err != nil {
		return err
	}
	fmt.Printf("GUEST reads waited for %.0f s; %d threads before, %d after\n", time.Since(at).Seconds(), before, l.threads())
	begins, ends := kernelLog("the store cannot be reached"), kernelLog("the store is back")
	fmt.Printf("GUEST kernel log: %d begin, %d end\n", begins, ends)
	return nil
}

func (l *lasting) threads() int {
	t, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", l.pid))
	if err != nil {
		return -1
	}
	return len(t)
}

// kernelLog counts lines.
func kernelLog(text string) int {
	buf := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return -1
	}
	return strings.Count(string(buf[:n]), text)
}

// idle counts what the daemon takes while nobody wants anything of it.
func (l *lasting) idle() error {
	const long = 20
	time.Sleep(10 * time.Second) // for what the collector of garbage has left to do
	ticks := func() (n, switches int64, err error) {
		f, err := l.stat()
		if err != nil {
			return 0, 0, err
		}
		for _, s := range f[11:13] { // utime, stime
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return 0, 0, err
			}
			n += v
		}
		names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", l.pid))
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				var v int64
				if n, _ := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &v); n == 1 {
					switches += v
				}
			}
		}
		return n, switches, err
	}
	// The runtime collects garbage each two minutes, in one of the two at most.
	for range 2 {
		t0, s0, err := ticks()
		if err != nil {
			return err
		}
		time.Sleep(long * time.Second)
		t1, s1, err := ticks()
		if err != nil {
			return err
		}
		fmt.Printf("GUEST idle for %d s: %d ticks, %d wake-ups\n", long, t1-t0, s1-s0)
	}
	return nil
}

func (l *lasting) memory() error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "Threads") {
			fmt.Print("GUEST ", line)
		}
	}
	return nil
}

// sysvinit goes down as Debian's init scripts do: sendsigs, umountfs,
// umountroot, halt.
func (l *lasting) sysvinit() error {
	if _, err := child(0, childDeaf); err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(deafFile); err == nil {
			break
		} else if time.Now().After(end) {
			return err
		}
	}
	omit := map[int]bool{os.Getpid(): true}
	lists, err := filepath.Glob("/run/sendsigs.omit.d/*")
	if err != nil {
		return err
	}
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, w := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(w); err == nil {
				omit[pid] = true
			}
		}
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		n, err := killAll(sig, omit)
		if err != nil {
			return err
		}
		fmt.Printf("GUEST signal %d to %d processes\n", sig, n)
		time.Sleep(time.Second)
	}
	if err := l.read(); err != nil {
		return fmt.Errorf("after SIGKILL: %w", err)
	}
	fmt.Println("GUEST survived SIGKILL to all others")
	unmountFS()
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount / read-only: %w", err)
	}
	if err := l.read(); err != nil {
		return fmt.Errorf("after umountroot: %w", err)
	}
	linksDown()
	fmt.Println("GUEST goes down as sysvinit does")
	return nil // and the caller switches off
}

// killAll sends a signal to all processes but kernel threads and those of
// omit, as killall5(8) does.
func killAll(sig unix.Signal, omit map[int]bool) (int, error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || omit[pid] {
			continue
		}
		if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid)); err != nil || len(maps) == 0 {
			continue
		}
		if unix.Kill(pid, sig) == nil {
			n++
		}
	}
	return n, nil
}

// unmountFS unmounts what umountfs does: what was mounted after the root, by
// force, and tries all the rest with care.
func unmountFS() {
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		fmt.Println("GUEST mounts:", err)
		return
	}
	protected := true
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if protected {
			protected = f[1] != "/"
			continue
		}
		if f[1] == "/proc" || f[1] == "/run" || f[1] == "/sys" || f[1] == "/dev" || f[1] == "/" {
			continue
		}
		fmt.Printf("GUEST umount -f %s: %v\n", f[1], unix.Unmount(f[1], unix.MNT_FORCE))
	}
	if protected {
		fmt.Println("GUEST FAILED: no root among the mounts")
	}
}

// linksDown is halt's option -i.
func linksDown() {
	links, err := net.Interfaces()
	if err != nil {
		fmt.Println("GUEST links:", err)
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		fmt.Println("GUEST links:", err)
		return
	}
	defer unix.Close(fd)
	for _, l := range links {
		req, err := unix.NewIfreq(l.Name)
		if err != nil {
			continue
		}
		req.SetUint16(0)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
			fmt.Printf("GUEST %s stays up: %v\n", l.Name, err)
		}
	}
}

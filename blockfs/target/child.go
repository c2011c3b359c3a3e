package target

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/daemon"
)

// child is the daemon as init sees it.
type child struct {
	pid    int
	orders *os.File
	ready  chan struct{} // closed by the first message, or the end of them

	mu       sync.Mutex
	messages []daemon.Message
	ended    bool
}

// startDaemon starts the daemon and waits until it shows the files.
//
// folder is the cache folder, "" for none. The daemon
// runs from a copy of this program on /run that later shuts the machine down;
// the initramfs is emptied.
func (b *booter) startDaemon(link netlink.Link, folder string) (*child, error) {
	fail := func(err error) (*child, error) {
		return nil, &failure{"start the daemon", err, "the machine may have too little memory"}
	}
	if err := b.mods.Load("fuse"); err != nil {
		return nil, &failure{"load the kernel module fuse", err, "push the image anew: its initramfs needs it"}
	}
	if err := copyProgram("/proc/self/exe", program); err != nil {
		return fail(err)
	}
	orders, ordersW, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	messagesR, messages, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	stats, err := os.OpenFile(statsFile, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fail(err)
	}
	report, err := os.OpenFile(bootFile, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fail(err)
	}
	status, err := listenStatus()
	if err != nil {
		return fail(err)
	}
	if err := offerProgram(program, Program); err != nil {
		return fail(err)
	}
	kernel, err := os.OpenFile("/dev/kmsg", os.O_RDONLY, 0)
	if err != nil {
		return fail(err)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	args := []string{daemon.Name, "daemon", "--dir", filesDir}
	if link != nil {
		args = append(args, "--link", strconv.Itoa(link.Attrs().Index))
	}
	if folder != "" {
		args = append(args, "--cache", folder, fmt.Sprintf("--fill=%t", !b.cmd.noFill))
	}
	// Descriptors from 3 on, see Inherited. The time zone is given, so that no
	// library looks for its file.
	p, err := os.StartProcess(program, args, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"TZ=UTC"},
		Files: []*os.File{null, null, null, orders, messages, b.kmsg, stats, report, status, kernel},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fail(err)
	}
	for _, f := range []*os.File{orders, messages, stats, report, status, kernel, null} {
		f.Close()
	}
	c := &child{pid: p.Pid, orders: ordersW, ready: make(chan struct{})}
	go c.listen(messagesR)
	started := time.Now()
	<-c.ready
	if err := c.refused(); err != nil {
		return nil, c.failure(err)
	}
	b.say("daemon ready after %.1f s", time.Since(started).Seconds())
	return c, nil
}

// listen takes the daemon's messages until init becomes another program.
func (c *child) listen(r io.Reader) {
	s := bufio.NewScanner(r)
	once := sync.OnceFunc(func() { close(c.ready) })
	for s.Scan() {
		var m daemon.Message
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			m.Error = fmt.Sprintf("the daemon says %q", s.Text())
		}
		c.mu.Lock()
		c.messages = append(c.messages, m)
		c.mu.Unlock()
		once()
	}
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	once()
}

// refused returns what the daemon could not accept, if anything.
func (c *child) refused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.messages {
		if m.Error != "" {
			return errors.New(m.Error)
		}
	}
	if c.ended {
		return errors.New("the daemon has ended")
	}
	return nil
}

func (c *child) failure(err error) error {
	return &failure{"read the image", err, "nothing was started from it: repair the store or its mirrors (push the image again), or choose another entry of the menu"}
}

// order tells the daemon something, see daemon.Patient and daemon.StageOrder.
func (c *child) order(what string) error {
	_, err := fmt.Fprintln(c.orders, what)
	return err
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(fmt.Errorf("copy this program to %s: %w", to, err), out.Close())
	}
	return out.Close()
}

// offerProgram shows the copy of this program at another name, where people
// find it for `blockfs status` on the running machine. That is a mount of its
// own: sysvinit's scripts and others forbid programs on /run (noexec), which
// holds for the mount of /run.
func offerProgram(file, name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := unix.Mount(file, name, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", file, name, err)
	}
	return nil
}

// listenStatus makes the socket for questions about the root.
func listenStatus() (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: StatusSocket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	// What it tells is no secret: no file names, no contents.
	if err := os.Chmod(StatusSocket, 0o666); err != nil {
		return nil, err
	}
	return l.File()
}

// Descriptors that startDaemon passes.
const (
	fdOrders = 3 + iota
	fdMessages
	fdKmsg
	fdStats
	fdBoot
	fdStatus
	fdKernel
)

// Files are what startDaemon passes to the daemon.
type Files struct {
	Orders, Messages, Kmsg, Stats, Boot *os.File
	Kernel                              *os.File // the kernel's log, for reading
	Status                              net.Listener
}

// Inherited returns what startDaemon passed to the daemon. It may be called
// once.
func Inherited() (*Files, error) {
	for fd := fdOrders; fd <= fdKernel; fd++ {
		unix.CloseOnExec(fd)
	}
	// So that a read can be ended.
	if err := unix.SetNonblock(fdKernel, true); err != nil {
		return nil, fmt.Errorf("take over the kernel's log: %w", err)
	}
	f := &Files{
		Orders: os.NewFile(fdOrders, "orders"), Messages: os.NewFile(fdMessages, "messages"), Kmsg: os.NewFile(fdKmsg, "/dev/kmsg"),
		Stats: os.NewFile(fdStats, statsFile), Boot: os.NewFile(fdBoot, bootFile),
		Kernel: os.NewFile(fdKernel, "/dev/kmsg"),
	}
	socket := os.NewFile(fdStatus, StatusSocket)
	defer socket.Close()
	var err error
	if f.Status, err = net.FileListener(socket); err != nil {
		return nil, fmt.Errorf("take over the socket for questions: %w", err)
	}
	return f, nil
}

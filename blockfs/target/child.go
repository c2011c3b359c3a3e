package target

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
// It runs from a copy of this program on /run that later shuts the machine
// down; the initramfs is emptied.
func (b *booter) startDaemon(link netlink.Link) (*child, error) {
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
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	// Descriptors 3 to 6, see RunDaemon.
	p, err := os.StartProcess(program, []string{daemon.Name, "daemon", "--link", strconv.Itoa(link.Attrs().Index), "--dir", filesDir}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []*os.File{null, null, null, orders, messages, b.kmsg, stats},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fail(err)
	}
	for _, f := range []*os.File{orders, messages, stats, null} {
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

// order tells the daemon that there is no way back any more.
func (c *child) order() error {
	_, err := fmt.Fprintln(c.orders, daemon.Patient)
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

// Descriptors that startDaemon passes.
const (
	fdOrders = 3 + iota
	fdMessages
	fdKmsg
	fdStats
)

// Inherited returns the files that startDaemon passed to the daemon. It may be
// called once.
func Inherited() (orders, messages, kmsg, stats *os.File) {
	for fd := fdOrders; fd <= fdStats; fd++ {
		unix.CloseOnExec(fd)
	}
	return os.NewFile(fdOrders, "orders"), os.NewFile(fdMessages, "messages"), os.NewFile(fdKmsg, "/dev/kmsg"), os.NewFile(fdStats, statsFile)
}

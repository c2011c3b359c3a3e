package main

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// personAtKeyboard sits at a machine's keyboard and screen.
type personAtKeyboard struct {
	t  *testing.T
	vm *vmtest.VM
}

// press presses keys, which have QEMU's names.
func (p *personAtKeyboard) press(keys ...string) {
	p.t.Helper()
	if err := p.vm.SendKeys(p.t.Context(), keys...); err != nil {
		p.t.Fatal(err)
	}
}

// screen waits until all of that is to be seen.
func (p *personAtKeyboard) screen(want ...string) {
	p.t.Helper()
	for _, w := range want {
		onScreen(p.t, p.vm, w)
	}
}

// fill types a text into the empty field that the person stands on. On a
// machine that is busy, keys that are held repeat themselves, as on a machine
// far away: then the person empties the field and begins again.
func (p *personAtKeyboard) fill(text string) {
	p.t.Helper()
	names := map[rune]string{'.': "dot", '/': "slash"}
	keys := []string{"ctrl-u"}
	for _, r := range text {
		if n, ok := names[r]; ok {
			keys = append(keys, n)
		} else {
			keys = append(keys, string(r))
		}
	}
	for range 5 {
		p.press(keys...)
		for range 30 {
			if shown, err := p.vm.ScreenText(p.t.Context()); err == nil && strings.Contains(shown, "  "+text+"\n") {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	p.t.Fatalf("the keyboard cannot type %q", text)
}

// realServer runs the project's own server at that address of the LAN, for what
// is published so far, and returns what it logs.
func (p *publisher) realServer(t *testing.T, lan *vmtest.LAN, address string) func() string {
	t.Helper()
	program := filepath.Join(filepath.Dir(kernelFile(t)), "server")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("no server (run `make build`): %v", err)
	}
	data := t.TempDir()
	p.mu.Lock()
	for name, b := range p.files {
		file := filepath.Join(data, "store", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.mu.Unlock()
	cmd := lan.Command(t.Context(), program, "--data", data, "--listen", address, "--log-format", "json")
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var log strings.Builder
	ready := make(chan struct{})
	go func() {
		serving := false
		for sc := bufio.NewScanner(r); sc.Scan(); {
			mu.Lock()
			log.WriteString(sc.Text() + "\n")
			mu.Unlock()
			if !serving && strings.Contains(sc.Text(), `"msg":"serving"`) {
				serving = true
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, r) // a line that is too long does not stop the program
	}()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); w.Close() })
	text := func() string { mu.Lock(); defer mu.Unlock(); return log.String() }
	select {
	case <-ready:
	case <-time.After(time.Duration(patience) * time.Second):
		t.Fatalf("the server does not begin:\n%s", text())
	}
	return text
}

// lateConsole is a second serial port at which nobody sits at first. args are
// for the machine; sit returns the person.
func lateConsole(t *testing.T) (args []string, sit func() net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "late-*") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "port")
	args = []string{"-chardev", "socket,id=late,server=on,wait=off,path=" + file, "-serial", "chardev:late"}
	return args, func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// readUntil reads what a console shows until it has shown all of that.
func readUntil(t *testing.T, conn net.Conn, want ...string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Duration(patience) * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	buf := make([]byte, 4096)
	for slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(got.String(), w) }) {
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("the console does not show %q: %v\n%q", want, err, got.String())
		}
	}
}

// On a LAN where nobody gives addresses, a person types one by serial line, and
// later another one by keyboard; each leads to the menu of a server. In between
// the menu is searched, the log and the command line are looked at, and
// somebody comes to a serial console that was not switched on.
func TestPeople(t *testing.T) {
	b := newBed(t, -1)
	lan, err := vmtest.NewLAN(t.Context(), "10.87.0.1/24")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { lan.Close() })
	serverLog := b.realServer(t, lan, "10.87.0.1:80")
	askedBy := func(address string) {
		t.Helper()
		// In the server's own words.
		if log := serverLog(); !strings.Contains(log, `"client":"`+address+`:`) {
			t.Errorf("the server was not asked by %s:\n%s", address, log)
		}
	}
	lateArgs, sit := lateConsole(t)
	vm := b.start(t, &site.Site{URLs: []string{"http://10.87.0.1"}}, vmtest.Config{Name: "people", CPUs: 1, VGA: true, NICs: []vmtest.NIC{{LAN: lan}}, Args: lateArgs})
	p := &personAtKeyboard{t, vm}

	// By serial line; an address without its network's length at first.
	vm.ExpectT(t, patience, `Esc`)
	vm.SendT(t, "\x1b") // nobody waits for an address that does not come
	vm.ExpectT(t, patience, `> +1  Try again`)
	p.screen("Change the network settings", "Tab: more")
	screenshot(t, vm, "no-network")
	vm.SendT(t, "\t")
	p.screen(" >  1  Look at the kernel's messages", "Start from the local disk")
	p.press("ret")
	p.screen(" Messages of the kernel\n")
	p.press("home")
	p.screen("Linux version 6.")
	vm.SendT(t, "\x1b")
	p.screen("Change the network settings")
	vm.SendT(t, "network settings\r")
	p.screen("< automatic, from the network (DHCP) >")
	vm.SendT(t, "\t"+keyRight+"\t10.87.0.51"+keyPgDn+"\r")
	p.screen(`10.87.0.51" is no address with the length of its network's prefix`)
	screenshot(t, vm, "form")
	vm.SendT(t, "/24"+keyPgDn+"\r")
	vm.ExpectT(t, patience, `inetboot: network settings changed: ip=10\.87\.0\.51:::24:::off vlan=\n`)
	vm.ExpectT(t, patience, `inetboot: address 10\.87\.0\.51/24 on eth0, as configured\n`)
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	p.screen("version  to load", " >  1  Tiny Linux 1", "64 MB")
	askedBy("10.87.0.51")
	screenshot(t, vm, "menu")

	// Both consoles lead into the same menu and out of it.
	vm.SendT(t, keyDown)
	p.screen(" >  2  More systems")
	p.press("ret")
	vm.ExpectT(t, patience, `Test menu > More systems`)
	p.screen(" >  1  Deep inside", "The same from a submenu.")
	screenshot(t, vm, "submenu")
	p.press("esc")
	p.screen(" >  2  More systems")
	vm.SendT(t, "deep")
	p.screen(" >  1  More systems > Deep inside", " Search: deep")
	screenshot(t, vm, "search")
	p.press("backspace", "backspace", "backspace", "backspace", "r", "e", "s", "t")
	p.screen(" Search: rest", " >  1  Restart")
	vm.SendT(t, "\x1b")
	p.screen(" >  2  More systems")

	// A second serial port, of which the command line knows nothing.
	late := sit()
	if _, err := late.Write([]byte("\x0c")); err != nil { // Control-L
		t.Fatal(err)
	}
	readUntil(t, late, " Test menu", "    1  Tiny Linux 1", " >  2  More systems", "Enter: start")
	if _, err := late.Write([]byte("1")); err != nil {
		t.Fatal(err)
	}
	p.screen(" >  1  Tiny Linux 1")

	// By keyboard alone, in place of what was typed before.
	p.press("tab")
	p.screen(" >  1  Edit the command line of Tiny Linux 1")
	screenshot(t, vm, "tools")
	p.press("2")
	p.screen(" >  2  Network settings")
	p.press("ret")
	p.screen("10.87.0.51/24")
	p.press("down", "down")
	p.screen(" > Address/length")
	p.fill("10.87.0.52/24")
	p.press("pgdn")
	p.screen(" > [ Use these settings ]")
	screenshot(t, vm, "form-keyboard")
	p.press("ret")
	vm.ExpectT(t, patience, `inetboot: network settings changed: ip=10\.87\.0\.52:::24:::off`)
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	p.screen(" >  1  Tiny Linux 1")
	askedBy("10.87.0.52")

	p.press("tab")
	p.screen(" >  1  Edit the command line of Tiny Linux 1")
	p.press("5")
	p.screen(" >  5  Look at the log")
	p.press("ret")
	p.screen(" Log\n", "network settings changed: ip=10.87.0.52")
	screenshot(t, vm, "log")
	p.press("home")
	p.screen("inetboot: InetBoot, amd64")
	p.press("esc")
	p.screen(" >  1  Tiny Linux 1")

	p.press("tab")
	p.screen(" >  1  Edit the command line of Tiny Linux 1")
	p.press("ret")
	p.screen("image.option=1 entry.option=2 console=tty0")
	vm.SendT(t, " typed=1")
	p.screen("typed=1")
	screenshot(t, vm, "edit")
	p.press("pgdn")
	p.screen(" > [ Start it ]")
	p.press("ret")
	cmdline, h := expectTarget(t, vm)
	if want := "image.option=1 entry.option=2 console=tty0 console=ttyS0,115200 typed=1 inetboot.boot=" + h.BootID; cmdline != want {
		t.Errorf("target's command line = %q; want %q", cmdline, want)
	}
	if n := h.Network; n.Lease != nil || !slices.Contains(n.Addresses, netip.MustParsePrefix("10.87.0.52/24")) || slices.Contains(n.Addresses, netip.MustParsePrefix("10.87.0.51/24")) {
		t.Errorf("the target's network = %+v; want 10.87.0.52/24 alone, without a lease", n)
	}
	if strings.Contains(vm.Text(), "inetboot: lease ") {
		t.Error("there was a lease, on a LAN without a DHCP server")
	}
}

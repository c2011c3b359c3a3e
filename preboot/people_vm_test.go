package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/vmtest"
)

// A person searches the menu, types the network by serial line and again by
// keyboard, looks at the log and at a failure, and edits a command line.
func TestPeople(t *testing.T) {
	b := newBed(t, -1)
	vm := b.start(t, b.site(), vmtest.Config{Name: "people", VGA: true, NICs: []vmtest.NIC{{}}})
	press := func(keys ...string) {
		t.Helper()
		if err := vm.SendKeys(t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
	}
	// letters are the names of keys that type a text.
	letters := func(text string) (keys []string) {
		names := map[rune]string{'.': "dot", '/': "slash", ' ': "spc", '=': "equal"}
		for _, r := range text {
			if n, ok := names[r]; ok {
				keys = append(keys, n)
			} else {
				keys = append(keys, string(r))
			}
		}
		return keys
	}
	screen := func(want string) { t.Helper(); onScreen(t, vm, want) }

	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	screen("version  to load")
	screen(" >  1  Tiny Linux 1")
	screen("64 MB")
	screenshot(t, vm, "menu")
	vm.SendT(t, "deep")
	screen(" >  1  More systems > Deep inside")
	screen(" Search: deep")
	screenshot(t, vm, "search")
	press("esc")
	screen(" >  1  Tiny Linux 1")

	// By serial line; an address that is none at first.
	vm.SendT(t, "\t")
	screen("Edit the command line of Tiny Linux 1")
	screenshot(t, vm, "tools")
	vm.SendT(t, "network\r")
	screen("< automatic, from the network (DHCP) >")
	vm.SendT(t, "\t\x1b[C\t10.0.2.99\x1b[6~\r")
	screen("10.0.2.99\" is no address with the length of its network's prefix")
	screenshot(t, vm, "form")
	vm.SendT(t, "/24\t10.0.2.2\x1b[6~\r")
	vm.ExpectT(t, patience, `inetboot: network settings changed: ip=10\.0\.2\.99::10\.0\.2\.2:24:::off vlan=\n`)
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)

	// By keyboard, with what was typed before in place.
	screen(" >  1  Tiny Linux 1")
	press("tab", "2", "ret")
	screen("Address/length")
	press("down", "down", "backspace", "backspace", "backspace", "backspace", "backspace")
	press(letters("88/24")...)
	screen("10.0.2.88/24")
	press("pgdn", "ret")
	vm.ExpectT(t, patience, `inetboot: network settings changed: ip=10\.0\.2\.88::10\.0\.2\.2:24:::off`)
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)

	screen(" >  1  Tiny Linux 1")
	press("tab")
	screen("Look at the log")
	press(letters("the log")...)
	press("ret")
	screen(" Log")
	screen("network settings changed: ip=10.0.2.88")
	screenshot(t, vm, "log")
	press("home")
	screen("inetboot: InetBoot, amd64")
	press("esc")
	screen(" >  1  Tiny Linux 1")

	undo := b.change(b.paths.kernel)
	press("ret")
	screen("refused: kernel: it has SHA-256")
	screen("Tried with: eth0, address 10.0.2.88/24")
	screen(" static; ")
	screenshot(t, vm, "failure")
	undo()
	press("esc")
	screen(" >  1  Tiny Linux 1")

	press("tab", "1", "ret")
	screen("image.option=1 entry.option=2 console=tty0")
	screenshot(t, vm, "edit")
	press(letters(" typed.option=yes")...)
	press("down", "ret")
	cmdline, h := expectTarget(t, vm)
	if want := "image.option=1 entry.option=2 console=tty0 console=ttyS0,115200 typed.option=yes inetboot.boot=" + h.BootID; cmdline != want {
		t.Errorf("target's command line = %q; want %q", cmdline, want)
	}
	if n := h.Network; n.Lease != nil || len(n.Addresses) == 0 || n.Addresses[0] != netip.MustParsePrefix("10.0.2.88/24") {
		t.Errorf("the target's network = %+v; want 10.0.2.88/24 without a lease", n)
	}
	if n := strings.Count(vm.Text(), "inetboot: lease "); n != 1 {
		t.Errorf("%d leases; want the one from before the form", n)
	}
}

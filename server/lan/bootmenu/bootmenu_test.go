package bootmenu

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testMenu() *Menu {
	own := func(id, title, args string) Entry {
		return Entry{ID: id, Title: title, Kernel: "images/ab/vmlinuz", Initrds: []string{"images/ab/initrd"}, Args: args}
	}
	return &Menu{
		Title: "Room 12", Default: "debian-12", Timeout: 10,
		Entries: []Entry{
			own("debian-12", `Debian "12" (${net0/mac}) && exit`, "root=/dev/nfs nfsroot=10.0.0.1:/debian/12  quiet"),
			{ID: "more", Title: "More", Entries: []Entry{own("deep", "Deep", "a=b"), {ID: "live", Title: "Live", Refused: "its root is squashfs"}}},
			{ID: "disk", Title: "Local disk", Action: LocalDisk},
			{ID: "off", Title: "Power off", Action: PowerOff},
			{ID: "inetboot", Title: "InetBoot's own menu", Kernel: "vmlinuz", Initrds: []string{"initramfs.xz", "site.cpio"}, Args: "console=tty0"},
		},
	}
}

func TestPxelinux(t *testing.T) {
	const entries = `LABEL debian-12
  MENU LABEL Debian 12 (??net0/mac?) ?? exit
  MENU DEFAULT
  KERNEL images/ab/vmlinuz
  INITRD images/ab/initrd
  APPEND root=/dev/nfs nfsroot=10.0.0.1:/debian/12 quiet
  IPAPPEND 2
MENU BEGIN more
MENU TITLE More
LABEL deep
  MENU LABEL Deep
  KERNEL images/ab/vmlinuz
  INITRD images/ab/initrd
  APPEND a=b
  IPAPPEND 2
LABEL live
  MENU LABEL Live
  MENU DISABLE
  TEXT HELP
  Not possible: its root is squashfs
  ENDTEXT
  LOCALBOOT -1
LABEL more..
  MENU LABEL Back
  MENU EXIT
MENU END
LABEL disk
  MENU LABEL Local disk
  LOCALBOOT 0
LABEL off
  MENU LABEL Power off
  MENU DISABLE
  TEXT HELP
  Not possible: pxelinux cannot do this
  ENDTEXT
  LOCALBOOT -1
LABEL inetboot
  MENU LABEL InetBoots own menu
  KERNEL vmlinuz
  INITRD initramfs.xz,site.cpio
  APPEND console=tty0
  IPAPPEND 2
`
	m := testMenu()
	if diff := cmp.Diff("DEFAULT debian-12\nUI menu.c32\nMENU TITLE Room 12\nTIMEOUT 100\nONTIMEOUT debian-12\n"+entries, string(m.Pxelinux(true))); diff != "" {
		t.Errorf("with modules (-want +got):\n%s", diff)
	}
	want := "DEFAULT debian-12\nSAY Room 12\nSAY   debian-12 - Debian 12 (??net0/mac?) ?? exit\nSAY   More:\nSAY     deep - Deep\nSAY     - Live\nSAY       (its root is squashfs)\nSAY   disk - Local disk\n" +
		"SAY   - Power off\nSAY     (pxelinux cannot do this)\nSAY   inetboot - InetBoots own menu\nPROMPT 1\nTIMEOUT 100\nONTIMEOUT debian-12\n"
	if diff := cmp.Diff(want+entries, string(m.Pxelinux(false))); diff != "" {
		t.Errorf("without modules (-want +got):\n%s", diff)
	}
	m.Timeout = 0
	if got := string(m.Pxelinux(true)); !strings.HasPrefix(got, "DEFAULT debian-12\nPROMPT 0\nLABEL") {
		t.Errorf("at once: %.80q", got)
	}
	m.Timeout = -1
	if got := string(m.Pxelinux(true)); strings.Contains(got, "TIMEOUT") || !strings.Contains(got, "UI menu.c32") {
		t.Errorf("never: %.80q", got)
	}
	// What cannot start does not start by itself.
	m.Timeout, m.Default = 5, "live"
	if got := string(m.Pxelinux(true)); strings.Contains(got, "TIMEOUT") || !strings.HasPrefix(got, "DEFAULT debian-12\n") {
		t.Errorf("a default that is refused: %.80q", got)
	}
}

func TestIPXE(t *testing.T) {
	want := `#!ipxe
set menu-timeout 10000
goto menu
:menu
menu Room 12
item e1 Debian 12 (??net0/mac?) ?? exit
item e2 More ...
item e3 Local disk
item e4 Power off
item e5 InetBoots own menu
choose --default e1 --timeout ${menu-timeout} selected || exit
set menu-timeout 0
goto ${selected}
:e1
imgfree
kernel images/ab/vmlinuz initrd=initrd root=/dev/nfs nfsroot=10.0.0.1:/debian/12 quiet BOOTIF=01-${netX/mac:hexhyp} || goto failed
initrd images/ab/initrd || goto failed
boot || goto failed
:e2
menu More
item e2e1 Deep
item e2e2 Live (not possible)
item menu Back
choose --timeout ${menu-timeout} selected || goto menu
set menu-timeout 0
goto ${selected}
:e2e1
imgfree
kernel images/ab/vmlinuz initrd=initrd a=b BOOTIF=01-${netX/mac:hexhyp} || goto failed
initrd images/ab/initrd || goto failed
boot || goto failed
:e2e2
echo Not possible: Live
echo Reason: its root is squashfs
prompt --timeout 30000 Press any key for the menu ||
goto e2
:e3
exit
:e4
poweroff || goto failed
:e5
imgfree
kernel vmlinuz initrd=initramfs.xz initrd=site.cpio console=tty0 BOOTIF=01-${netX/mac:hexhyp} || goto failed
initrd initramfs.xz || goto failed
initrd site.cpio || goto failed
boot || goto failed
:failed
echo It could not be started from ${cwuri}.
prompt --timeout 30000 Press any key for the menu ||
goto menu
`
	m := testMenu()
	if diff := cmp.Diff(want, string(m.IPXE())); diff != "" {
		t.Errorf("IPXE() (-want +got):\n%s", diff)
	}
	m.Default = "deep"
	if got := string(m.IPXE()); !strings.Contains(got, "goto e2\n") || !strings.Contains(got, "choose --default e2e1") {
		t.Errorf("a default in a submenu:\n%s", got)
	}
	m.Timeout = 0
	if got := string(m.IPXE()); !strings.HasPrefix(got, "#!ipxe\nset menu-timeout 0\ngoto e2e1\n") {
		t.Errorf("at once: %.80q", got)
	}
}

func TestArguments(t *testing.T) {
	for args, want := range map[string]struct{ pxelinux, ipxe bool }{
		"a b=c":                        {true, true},
		`dyndbg="file a.c +p"`:         {true, true},
		"a=${net0/mac}":                {true, false},
		"a || b":                       {true, false},
		"a && b":                       {true, false},
		"a ; b":                        {true, false},
		"a #b":                         {true, false},
		"a=b#c":                        {true, true},
		"a=\x1b[2J":                    {false, false},
		"a=ä":                          {false, false},
		strings.Repeat("x", maxArgs+1): {false, false},
	} {
		m := &Menu{Default: "x", Timeout: 0, Entries: []Entry{{ID: "x", Title: "X", Kernel: "k", Initrds: []string{"i"}, Args: args}}}
		if got := strings.Contains(string(m.Pxelinux(false)), "KERNEL k"); got != want.pxelinux {
			t.Errorf("pxelinux with %.40q: %t; want %t", args, got, want.pxelinux)
		}
		if got := strings.Contains(string(m.IPXE()), "kernel k"); got != want.ipxe {
			t.Errorf("iPXE with %.40q: %t; want %t", args, got, want.ipxe)
		}
	}
}

// Whatever stands in titles, reasons and arguments, the lines of a menu are
// those of one with plain ones, and iPXE replaces nothing in them.
func FuzzTexts(f *testing.F) {
	f.Add("Debian\nKERNEL evil", "${x}", "a b")
	f.Add("|| exit", "#", "a\nboot")
	f.Add("-n", ";", "${")
	f.Fuzz(func(t *testing.T, title, why, args string) {
		menu := func(title, why, args string) *Menu {
			return &Menu{Title: title, Timeout: -1, Entries: []Entry{{ID: "a", Title: title, Kernel: "k", Initrds: []string{"i"}, Args: args}, {ID: "b", Title: title, Refused: why + "."}}}
		}
		m, clean := menu(title, why, args), menu("t", "w", "a")
		starts := func(b []byte) string {
			var out []string
			for l := range strings.Lines(string(b)) {
				w, _, _ := strings.Cut(strings.TrimSpace(l), " ")
				out = append(out, w)
			}
			return strings.Join(out, "\n")
		}
		if unfit(args) == "" {
			if got, want := starts(m.Pxelinux(true)), starts(clean.Pxelinux(true)); got != want {
				t.Errorf("pxelinux with %q, %q, %q:\n%s", title, why, args, m.Pxelinux(true))
			}
		}
		script := string(m.IPXE())
		if strings.Contains(script, "kernel k") {
			if got, want := starts([]byte(script)), starts(clean.IPXE()); got != want {
				t.Errorf("iPXE with %q, %q, %q:\n%s", title, why, args, script)
			}
		}
		for _, own := range []string{"${menu-timeout}", "${selected}", "${netX/mac:hexhyp}", "${cwuri}"} {
			script = strings.ReplaceAll(script, own, "")
		}
		if strings.Contains(script, "${") {
			t.Errorf("iPXE replaces something with %q, %q, %q:\n%s", title, why, args, script)
		}
	})
}

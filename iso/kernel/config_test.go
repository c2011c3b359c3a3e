package kernel

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/nicdriver"
)

func TestParseFragment(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     map[string]string
		wantErr  string
	}{
		{"empty", "", map[string]string{}, ""},
		{"values", "CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=64\nCONFIG_D=\"a=b\"\n",
			map[string]string{"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": "64", "CONFIG_D": `"a=b"`}, ""},
		{"not set", "# CONFIG_A is not set\n", map[string]string{"CONFIG_A": "n"}, ""},
		{"comments", "\n# General\n  \n# CONFIG_ is a prefix\nCONFIG_A=y", map[string]string{"CONFIG_A": "y"}, ""},
		{"twice the same", "CONFIG_A=y\nCONFIG_A=y\n", map[string]string{"CONFIG_A": "y"}, ""},
		{"contradiction", "CONFIG_A=y\n\nCONFIG_A=n\n", nil, "line 3: CONFIG_A is both y and n"},
		{"no value", "CONFIG_A\n", nil, "line 1"},
		{"empty value", "CONFIG_A=\n", nil, "line 1"},
		{"other name", "A=y\n", nil, "line 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseFragment([]byte(tt.in))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("parseFragment(%q) = %v, %v; want an error with %q", tt.in, got, err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatalf("parseFragment(%q): %v", tt.in, err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("parseFragment(%q) (-want +got):\n%s", tt.in, d)
			}
		})
	}
}

func TestCheckConfig(t *testing.T) {
	got := map[string]string{"CONFIG_NET": "y", "CONFIG_HZ": "100", "CONFIG_PM": "n", "CONFIG_USB": "m"}
	for _, tt := range []struct {
		name  string
		want  map[string]string
		named []string // in the error; nil: no error
	}{
		{"all set", map[string]string{"CONFIG_NET": "y", "CONFIG_HZ": "100"}, nil},
		{"off and off", map[string]string{"CONFIG_PM": "n"}, nil},
		{"off and unknown", map[string]string{"CONFIG_BLOCK": "n"}, nil},
		{"dropped", map[string]string{"CONFIG_E1000E": "y"}, []string{"CONFIG_E1000E is n, want y"}},
		{"selected by others", map[string]string{"CONFIG_NET": "n"}, []string{"CONFIG_NET is y, want n"}},
		{"module", map[string]string{"CONFIG_USB": "y"}, []string{"CONFIG_USB is m, want y"}},
		{"every one is named", map[string]string{"CONFIG_E1000E": "y", "CONFIG_HZ": "250", "CONFIG_NET": "y"},
			[]string{"CONFIG_E1000E is n, want y", "CONFIG_HZ is 100, want 250"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkConfig(tt.want, got)
			if tt.named == nil {
				if err != nil {
					t.Errorf("checkConfig(%v) = %v; want nil", tt.want, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("checkConfig(%v) = nil; want an error that names %q", tt.want, tt.named)
			}
			for _, n := range tt.named {
				if !strings.Contains(err.Error(), n) {
					t.Errorf("checkConfig(%v) = %v; want %q in it", tt.want, err, n)
				}
			}
			if n := strings.Count(err.Error(), "CONFIG_"); n != len(tt.named) {
				t.Errorf("checkConfig(%v) = %v; names %d options, want %d", tt.want, err, n, len(tt.named))
			}
		})
	}
}

// drivers lists the options of the network drivers that the other parts of
// the system believe the medium to have.
func drivers() []string {
	var out []string
	for _, d := range nicdriver.Media() {
		out = append(out, d.Option)
	}
	return out
}

// TestDriversAreKnown looks for network drivers in the configuration that
// package nicdriver does not know, by the place where they stand: between the
// first and the last one that it does.
func TestDriversAreKnown(t *testing.T) {
	text := string(fragment)
	at := func(option string) int { return strings.Index(text, "CONFIG_"+option+"=y") }
	first, last := len(text), 0
	for _, o := range drivers() {
		first, last = min(first, at(o)), max(last, at(o))
	}
	// Menus and parts of drivers.
	other := regexp.MustCompile(`^CONFIG_(NET_VENDOR_\w+|\w*_PHY|USB_USBNET|USB_NET_DRIVERS|ETHERNET|NET_CORE|PHYLIB|MII|8139\w+_\w+|\w+_IO|PCI\w*|USB|USB_SUPPORT)=`)
	for line := range strings.Lines(text[first:last]) {
		line = strings.TrimSpace(line)
		option, on := strings.CutSuffix(line, "=y")
		if on && !other.MatchString(line) && !slices.Contains(drivers(), strings.TrimPrefix(option, "CONFIG_")) {
			t.Errorf("%s is not in nicdriver.Media", line)
		}
	}
}

// TestFragmentPromises holds the shipped configuration against what the
// documentation says the medium can do, so that nobody saves a kilobyte there
// without noticing.
func TestFragmentPromises(t *testing.T) {
	opts, err := parseFragment(fragment)
	if err != nil {
		t.Fatal(err)
	}
	for what, names := range map[string][]string{
		"firmware": {"EFI", "EFI_STUB", "ACPI", "DMIID", "RTC_DRV_CMOS"},
		"start":    {"BLK_DEV_INITRD", "RD_XZ", "XZ_DEC_X86", "DEVTMPFS", "TMPFS", "PROC_FS", "SYSFS", "RANDOM_TRUST_CPU"},
		"jump":     {"KEXEC", "KEXEC_FILE"},
		"consoles": {"SERIAL_8250_CONSOLE", "VGA_CONSOLE", "FB_EFI", "FRAMEBUFFER_CONSOLE", "VT_CONSOLE"},
		"keyboard": {"KEYBOARD_ATKBD", "SERIO_I8042", "USB_HID", "HID_GENERIC", "USB_XHCI_HCD", "USB_EHCI_HCD", "USB_OHCI_HCD", "USB_UHCI_HCD"},
		"network":  {"INET", "IPV6", "PACKET", "UNIX", "VLAN_8021Q"},
		"drivers":  drivers(),
	} {
		for _, n := range names {
			if got := opts["CONFIG_"+n]; got != "y" {
				t.Errorf("%s: CONFIG_%s is %q; want y", what, n, got)
			}
		}
	}
}

// TestXZWrapper runs the stand-in for xz as the kernel's build does
// (scripts/xz_wrap.sh): only the dictionary and its relatives may change.
func TestXZWrapper(t *testing.T) {
	dir := t.TempDir()
	wrapper := filepath.Join(dir, "wrapper")
	if err := os.WriteFile(wrapper, []byte(xzWrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	// In place of xz: a program that tells how it was called.
	if err := os.WriteFile(filepath.Join(dir, "xz"), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(wrapper, "--check=crc32", "--x86", "--lzma2=dict=32MiB", "a file")
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run the wrapper: %v", err)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(got) != 4 || got[0] != "--check=none" || got[1] != "--x86" || !strings.HasPrefix(got[2], "--lzma2=preset=9e,") || got[3] != "a file" {
		t.Errorf("the wrapper calls xz with %q", got)
	}
}

// TestFragmentHasNoHiddenOptions is about people: `# CONFIG_X is not set` in the
// fragment would look like a comment to the next reader.
func TestFragmentHasNoHiddenOptions(t *testing.T) {
	if i := bytes.Index(fragment, []byte("is not set")); i >= 0 {
		t.Errorf("inetboot.config says \"is not set\" at byte %d; write CONFIG_X=n", i)
	}
	opts, err := parseFragment(fragment)
	if err != nil {
		t.Fatal(err)
	}
	if mods := slices.Collect(maps.Values(opts)); slices.Contains(mods, "m") {
		t.Error("inetboot.config asks for a module, but the medium has none")
	}
}

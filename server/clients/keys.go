package clients

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Method is how a client boots.
type Method string

// The methods.
const (
	Preboot Method = "preboot" // the menu, and all that comes with it; the default
	NFS     Method = "nfs"     // kernel and initrd by TFTP or HTTP, root by NFS
	NBD     Method = "nbd"     // the same with the root by NBD
	Local   Method = "local"   // no boot file: the machine goes on to its disk
	Refuse  Method = "no"      // no answer at all
)

// maxValue bounds a value, in bytes.
const maxValue = 1000

// DefaultSwap is the value of [Settings.Swap] for a client whose swap is as
// large as the server says.
const DefaultSwap = -1

// maxSwap bounds the swap of a client, in bytes.
const maxSwap = 1 << 40

// checkValue checks one value of a section of a kind.
func checkValue(kind Kind, name string, v Value) error {
	if len(v.Text) > maxValue || strings.ContainsFunc(v.Text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		return fmt.Errorf("%s: more than %d bytes, or characters that are not printable", v.Key, maxValue)
	}
	want := func(ok bool, what string) error {
		if !ok {
			return fmt.Errorf("%s = %s: want %s", v.Key, v.Text, what)
		}
		return nil
	}
	exact := kind == Client && !isGlob(name)
	assigns := kind == Client || kind == Default || kind == Unknown
	key, sub, dotted := strings.Cut(v.Key, ".")
	switch key {
	case "like":
		for _, n := range splitList(v.Text) {
			if _, _, err := ParseHeader(likeHeader(n)); err != nil {
				return err
			}
		}
		return nil
	case "type", "group", "service":
		if !assigns {
			return fmt.Errorf("%s does not belong into a section of a %s: put it into one of a client, [default] or [unknown]", v.Key, kind)
		}
		for _, n := range splitList(v.Text) {
			if !wordOK(n) {
				return fmt.Errorf("%s: %q is no name", v.Key, n)
			}
		}
		return want(key != "type" || len(splitList(v.Text)) <= 1, "one name")
	case "known":
		if kind != Client {
			return fmt.Errorf("known belongs into a section of a client")
		}
		return want(v.Text == "yes" || v.Text == "no", "yes or no")
	case "name", "address":
		if !exact {
			return fmt.Errorf("%s belongs into a section of one client, not of several", v.Key)
		}
		if key == "name" {
			return want(hostOK(v.Text), "a host name in lower case")
		}
		a, err := netip.ParseAddr(v.Text)
		return want(err == nil && a.Is4(), "an IPv4 address")
	case "boot":
		return want(slices.Contains([]Method{Preboot, NFS, NBD, Local, Refuse}, Method(v.Text)), "preboot, nfs, nbd, local or no")
	case "file":
		return want(v.Text == "" || (!path.IsAbs(v.Text) && path.Clean(v.Text) == v.Text && v.Text != "." && v.Text != ".." && !strings.HasPrefix(v.Text, "../") && len(v.Text) <= 127), "a path below the server's boot files, of at most 127 bytes")
	case "image":
		n, version, slash := strings.Cut(v.Text, "/")
		return want(v.Text == "" || (wordOK(n) && (!slash || wordOK(version))), "NAME or NAME/VERSION")
	case "entry":
		return want(v.Text == "" || wordOK(v.Text), "the name of an entry of the menu")
	case "timeout":
		n, err := strconv.Atoi(v.Text)
		return want(err == nil && n >= -1 && n <= 86400, "seconds from 0 (at once) to 86400, or -1 (never)")
	case "argument":
		return nil
	case "hostname":
		return want(v.Text == "" || strings.Trim(v.Text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._{}") == "", "a host name, in which {mac}, {mac6}, {ip-} and others stand for the machine's")
	case "timezone":
		return want(strings.Trim(v.Text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-+_/") == "" && !strings.HasPrefix(v.Text, "/"), "a time zone such as Europe/Vienna")
	case "locale":
		return want(strings.Trim(v.Text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._@") == "", "a locale such as de_AT.UTF-8")
	case "keyboard":
		layout, variant, slash := strings.Cut(v.Text, "/")
		return want(v.Text == "" || (wordOK(layout) && (!slash || wordOK(variant))), "LAYOUT or LAYOUT/VARIANT, as of XKB")
	case "swap":
		_, err := ParseSize(v.Text)
		return want(v.Text == "no" || v.Text == "yes" || err == nil, "a size such as 512M, yes (as large as the server's --swap-size), or no")
	case "env":
		if !variable.MatchString(sub) {
			return fmt.Errorf("%s: want env.NAME with a name of letters, digits and _", v.Key)
		}
		return nil
	case "module":
		if !dotted || !wordOK(sub) || strings.Contains(sub, ".") {
			return fmt.Errorf("%s: want module.NAME, such as module.e1000e = InterruptThrottleRate=0", v.Key)
		}
		return nil
	}
	return fmt.Errorf("%q is no setting: there are %s", v.Key, strings.Join(keyNames(), ", "))
}

func keyNames() []string {
	return []string{"like", "type", "group", "service", "known", "name", "address", "boot", "file", "image", "entry", "timeout", "argument", "module.NAME", "env.NAME", "hostname", "timezone", "locale", "keyboard", "swap"}
}

// splitList splits a value at commas and spaces.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

// ParseSize reads a number of bytes, with K, M, G or T for powers of 1024.
func ParseSize(s string) (int64, error) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("KMGT", s[len(s)-1]&^0x20); i >= 0 {
			shift, s = 10*(i+1), s[:len(s)-1]
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > maxSwap>>shift {
		return 0, fmt.Errorf("size %q: want a number of bytes of at most 1T, such as 512M", s)
	}
	return n << shift, nil
}

// likeHeader is the header that an entry of "like" means: NAME is the
// section NAME, and KIND:NAME is one of another kind.
func likeHeader(n string) string {
	if kind, name, ok := strings.Cut(n, ":"); ok && !strings.Contains(name, ":") {
		return kind + " " + name
	}
	if n == string(Default) {
		return n
	}
	if wordOK(n) {
		return string(Template) + " " + n
	}
	return n // a client
}

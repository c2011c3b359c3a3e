package storepath

import (
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/digest"
)

func TestRoundTrip(t *testing.T) {
	d := digest.Of([]byte("x"))
	for _, tt := range []struct {
		path string
		kind Kind
		sum  digest.SHA256
	}{
		{Timestamp, KindMetadata, digest.SHA256{}},
		{RoleMetadata("root", 1), KindMetadata, digest.SHA256{}},
		{RoleMetadata("lab-2", 12), KindMetadata, digest.SHA256{}},
		{Block(d), KindBlock, d},
		{Index(d), KindIndex, d},
		{File(d), KindFile, d},
		{Pack(d), KindPack, d},
		{Target("menu.json", d), KindTarget, d},
		{Mark("push-0a"), KindMark, digest.SHA256{}},
		{Target("images/debian/12/amd64.json", d), KindTarget, d},
	} {
		kind, sum, ok := Parse(tt.path)
		if !ok || kind != tt.kind || sum != tt.sum {
			t.Errorf("Parse(%q) = %v, %v, %v; want %v, %v", tt.path, kind, sum, ok, tt.kind, tt.sum)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	h := digest.Of([]byte("x")).String()
	other := "00"
	if h[:2] == other {
		other = "11"
	}
	for _, p := range []string{
		"", "/", "catalog", "catalog/", "catalog/.json", "catalog/a/b.json", "catalog/.lock", "marks/x", "marks/.json", "marks/a/b.json",
		"catalog/x.json", "catalog/../catalog/timestamp.json", "/catalog/timestamp.json",
		"catalog/1.timestamp.json", "catalog/0.root.json", "catalog/01.root.json", "catalog/-1.root.json", "catalog/+1.root.json", "catalog/1..json",
		"catalog/1.root", "catalog/root.json", "catalog/1.a/b.json", "catalog/1...json", "catalog/99999999999999999999.root.json",
		"files/", "files/" + h[1:], "files/" + h + "0", "files/" + strings.ToUpper(h), "files/" + h + "/", "files//" + h, "other/" + h,
		"blocks/" + h, "blocks/" + other + "/" + h, "blocks/" + h[:2] + "/" + h + "/x", "blocks//" + h,
		"catalog/targets/" + h, "catalog/targets/" + h + ".", "catalog/targets/../" + h + ".x", "catalog/targets/a/../" + h + ".x",
		"catalog/targets/.a/" + h + ".x", "catalog/targets/a b/" + h + ".x", "catalog/targets/" + strings.Repeat("a/", 300) + h + ".x",
		"files\\" + h, "files/" + h + "\x00", "files/%2e%2e",
	} {
		if kind, _, ok := Parse(p); ok {
			t.Errorf("Parse(%q) = %v; want a refusal", p, kind)
		}
	}
}

func TestValidElement(t *testing.T) {
	for s, want := range map[string]bool{
		"debian": true, "12": true, "1.0~rc1+b-2_x": true,
		"": false, ".": false, "..": false, ".x": false, "-x": false, "a/b": false, "a b": false, "ü": false, strings.Repeat("a", 101): false,
	} {
		if got := ValidElement(s); got != want {
			t.Errorf("ValidElement(%q) = %v; want %v", s, got, want)
		}
	}
}

// Whatever Parse takes is a clean relative path below one of the folders.
func FuzzParse(f *testing.F) {
	d := digest.Of([]byte("x"))
	for _, s := range []string{Timestamp, RoleMetadata("root", 3), Block(d), Index(d), Target("a/b.json", d), Mark("gc"), "../x", "files/" + d.String() + "/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		kind, sum, ok := Parse(p)
		if !ok {
			return
		}
		for el := range strings.SplitSeq(p, "/") {
			if el == "" || el == "." || el == ".." || strings.ContainsAny(el, "\\\x00") {
				t.Errorf("Parse(%q) = %v; it has the element %q", p, kind, el)
			}
		}
		if !strings.HasPrefix(p, kind.Prefix()) {
			t.Errorf("Parse(%q) = %v; it is not below %s", p, kind, kind.Prefix())
		}
		if kind.Immutable() && !strings.Contains(p, sum.String()) {
			t.Errorf("Parse(%q) = %v %v; the hash is not in the path", p, kind, sum)
		}
	})
}

func TestVersioned(t *testing.T) {
	for p, want := range map[string]bool{
		RoleMetadata("root", 1): true, RoleMetadata("a.b", 20): true,
		Timestamp: false, "catalog/v1.root.json": false, Mark("1.x"): false,
	} {
		if got := Versioned(p); got != want {
			t.Errorf("Versioned(%q) = %v; want %v", p, got, want)
		}
	}
}

package imageurl

import (
	"errors"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/digest"
)

func TestParse(t *testing.T) {
	a, b := digest.Of([]byte("a")), digest.Of([]byte("b"))
	for _, tt := range []struct {
		in   string
		want URL
	}{
		{"http://h/catalog/targets/images/debian/12/" + a.String() + ".amd64.json", URL{"http://h", "catalog/targets/images/debian/12/" + a.String() + ".amd64.json", a}},
		{"https://h:8080/deep/store/files/" + a.String(), URL{"https://h:8080/deep/store", "files/" + a.String(), a}},
		{" http://h/files/" + a.String() + "#sha256=" + a.String() + " ", URL{"http://h", "files/" + a.String(), a}},
		{"http://h/x/my.json", URL{Base: "http://h/x", Path: "my.json"}},
		{"http://h/my.json#sha256=" + b.String(), URL{"http://h", "my.json", b}},
		{"http://h/files/notahash", URL{Base: "http://h/files", Path: "notahash"}},
	} {
		got, err := Parse(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
		}
		if got.Known() == tt.want.Digest.IsZero() {
			t.Errorf("Known of %q = %t", tt.in, got.Known())
		}
	}
	for _, in := range []string{
		"", "http://", "http://h", "http://h/", "http://h/x/", "ftp://h/x", "http://h/x?q", "http://h/../x", "http://h//x", "http://h/x#md5=1", "http://h/x#sha256=12", "http://h/a b", "http://h/%2e",
		"http://h/files/" + a.String() + "#sha256=" + b.String(),
	} {
		if got, err := Parse(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %+v, %v; want ErrInvalid", in, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("http://h/x/files/" + digest.Of(nil).String())
	f.Add("https://h/a/b.json#sha256=" + digest.Of(nil).String())
	f.Fuzz(func(t *testing.T, in string) {
		u, err := Parse(in)
		if err != nil {
			return
		}
		plain, _, _ := strings.Cut(strings.TrimSpace(in), "#")
		if u.String() != plain || u.Base == "" || u.Path == "" || strings.Contains(u.Path, "..") && strings.HasPrefix(u.Path, "..") {
			t.Errorf("Parse(%q) = %+v", in, u)
		}
	})
}

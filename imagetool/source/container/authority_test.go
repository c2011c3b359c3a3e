package container

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAuthorities(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.example:5000/ca.crt", "a.example:5000/client.cert", "b.example/x.crt", "b.example/y.crt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for host, want := range map[string][]string{
		"a.example:5000": {"own", "a.example:5000/ca.crt"},
		"a.example":      {"own"},
		"b.example":      {"own", "b.example/x.crt", "b.example/y.crt"},
		"*":              {"own"},
		"../" + filepath.Base(dir) + "/b.example": {"own"},
		"[::1]:5000": {"own"},
	} {
		got, err := Registry{CA: "own", Folders: []string{dir, filepath.Join(dir, "none")}}.authorities(host)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], dir+"/")
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("authorities(%q): %v, -want +got:\n%s", host, err, diff)
		}
	}
}

type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) { return &http.Response{}, nil }

// Nothing is sent in the clear to other machines unless that is asked for.
func TestEncrypted(t *testing.T) {
	for _, tc := range []struct {
		url         string
		plain, want bool
	}{
		{"https://registry.example/v2/", false, true},
		{"http://registry.example/v2/", false, false},
		{"http://10.1.2.3:5000/v2/", false, false},
		{"http://192.168.1.1/v2/", false, false},
		{"http://192.168.1.1/v2/", true, true},
		{"http://127.0.0.1:5000/v2/", false, true},
		{"http://[::1]:5000/v2/", false, true},
		{"http://localhost:5000/v2/", false, true},
	} {
		r, err := http.NewRequest(http.MethodGet, tc.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (encrypted{answering{}, tc.plain}).RoundTrip(r); (err == nil) != tc.want {
			t.Errorf("%s, --plain-http %v: %v; want it sent: %v", tc.url, tc.plain, err, tc.want)
		}
	}
}

type counting int

func (c *counting) RoundTrip(*http.Request) (*http.Response, error) {
	*c++
	return &http.Response{}, nil
}

// The store that a registry sends on to is not shown the certificate.
func TestIntroduced(t *testing.T) {
	for _, tc := range []struct {
		host, url string
		want      bool
	}{
		{"registry.example", "https://registry.example/v2/", true},
		{"registry.example", "https://registry.example:443/v2/", true},
		{"registry.example:5000", "https://registry.example:5000/v2/", true},
		{"registry.example:5000", "https://registry.example/v2/", false},
		{"registry.example", "https://blobs.example/v2/", false},
	} {
		r, err := http.NewRequest(http.MethodGet, tc.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		var known, anonymous counting
		if _, err := (introduced{tc.host, &known, &anonymous}).RoundTrip(r); err != nil || (known == 1) != tc.want || known+anonymous != 1 {
			t.Errorf("%s of the registry %s: %d times with the certificate, %d without, %v; want it shown: %v", tc.url, tc.host, known, anonymous, err, tc.want)
		}
	}
}

package digest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	good := Of([]byte("abc"))
	// FIPS 180-4's example.
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; good.String() != want {
		t.Fatalf("Of(abc) = %v; want %s", good, want)
	}
	if got, err := Parse(good.String()); err != nil || got != good {
		t.Errorf("Parse(%s) = %v, %v", good, got, err)
	}
	for _, s := range []string{"", "ba", good.String() + "0", strings.ToUpper(good.String()), "g" + good.String()[1:], strings.Repeat("x", 1000)} {
		if _, err := Parse(s); err == nil || len(err.Error()) > 300 {
			t.Errorf("Parse(%.80q) = %v; want a short error", s, err)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Of([]byte("a")).Check("it", []byte("a")); err != nil {
		t.Errorf("Check of the right bytes = %v", err)
	}
	err := Of([]byte("a")).Check("the kernel", []byte("b"))
	var m *MismatchError
	if !errors.Is(err, ErrMismatch) || !errors.As(err, &m) || !strings.Contains(err.Error(), "the kernel") {
		t.Errorf("Check of wrong bytes = %v; want a MismatchError that names them", err)
	}
}

func TestBlobJSON(t *testing.T) {
	b := BlobOf([]byte("abc"))
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var got Blob
	if err := json.Unmarshal(data, &got); err != nil || got != b {
		t.Errorf("round trip of %s = %v, %v", data, got, err)
	}
	if err := json.Unmarshal([]byte(`{"sha256":"AB","size":1}`), &got); err == nil {
		t.Error("a malformed hash was taken")
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(Of(nil).String())
	f.Add("ABC")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Parse(s); err == nil && d.String() != s {
			t.Errorf("Parse(%q).String() = %q", s, d)
		}
	})
}

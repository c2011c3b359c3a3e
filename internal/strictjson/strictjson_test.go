package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

type doc struct {
	A    int
	K    int
	S    string
	Next *doc
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"good", `{"a":1,"s":"x","next":{"a":2}}`, true},
		{"unknown member", `{"a":1,"new":[{"b":null}]}`, true},
		{"same name in two objects", `{"a":1,"next":{"a":1}}`, true},
		{"empty", ``, false},
		{"twice", `{"a":1,"a":2}`, false},
		{"twice, other case", `{"a":1,"A":2}`, false},
		{"twice, Kelvin sign", `{"k":1,"` + "\u212a" + `":2}`, false},
		{"twice, long s", `{"s":"x","` + "\u017f" + `":"y"}`, false},
		{"twice by escape", `{"a":1,"\u0061":2}`, false},
		{"twice, deep", `{"next":{"a":1,"A":2}}`, false},
		{"data behind", `{"a":1} {}`, false},
		{"cut off", `{"a":1`, false},
		{"wrong type", `{"a":"x"}`, false},
		{"not UTF-8", "{\"s\":\"\xff\"}", false},
		{"deep", strings.Repeat("[", 40) + strings.Repeat("]", 40), false},
		{"too long", `{"s":"` + strings.Repeat("x", 2000) + `"}`, false},
	} {
		var d doc
		err := Unmarshal([]byte(tt.in), 1000, &d)
		if (err == nil) != tt.ok {
			t.Errorf("%s: Unmarshal(%.60q) = %v; want success %v", tt.name, tt.in, err, tt.ok)
		}
		if err != nil && !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v does not wrap ErrSyntax", tt.name, err)
		}
	}
}

func TestRequires(t *testing.T) {
	if err := Requires("it", []string{"a"}, []string{"a", "b"}); err != nil {
		t.Errorf("Requires of a known feature = %v", err)
	}
	err := Requires("it", []string{"a", "c", "d"}, []string{"a"})
	var r *RequiresError
	if !errors.As(err, &r) || len(r.Missing) != 2 || !strings.Contains(err.Error(), "c, d") {
		t.Errorf("Requires of unknown features = %v; want c and d named", err)
	}
}

// What is taken here is JSON to encoding/json, too, and has one meaning: the
// first of two members never hides behind the second.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":1,"A":2}`, `[1,2,{"x":{}}]`, `"x"`, `{"` + "\u017f" + `":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		if err := Unmarshal(data, 1<<16, &v); err != nil {
			return
		}
		if !json.Valid(data) {
			t.Errorf("Unmarshal took %q, which is no JSON", data)
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var again any
		if err := Unmarshal(out, 1<<20, &again); err != nil {
			t.Errorf("Unmarshal(%q) after a round trip = %v", out, err)
		}
	})
}

package settings

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/digest"
)

func TestScript(t *testing.T) {
	sum := digest.Of([]byte("x"))
	for _, tt := range []struct {
		value string
		want  *Script // nil: none
		bad   bool
	}{
		{value: "lab", want: &Script{Name: "lab", Limit: 10 * time.Minute}},
		{value: "site/lab.txt,sha256=" + sum.String() + ",timeout=30", want: &Script{Name: "site/lab.txt", Digest: sum, Limit: 30 * time.Second}},
		{value: ""},
		{value: "../lab", bad: true},
		{value: "http://a/b", bad: true},
		{value: "lab,sha256=12", bad: true},
		{value: "lab,timeout=0", bad: true},
		{value: "lab,timeout=x", bad: true},
		{value: "lab,later", bad: true},
	} {
		s, err := Read("iscript="+tt.value, fstest.MapFS{})
		if bad := errors.Is(err, ErrInvalid); bad != tt.bad || bad && !strings.Contains(err.Error(), "iscript") {
			t.Errorf("Read(iscript=%s) = %v; want bad = %v", tt.value, err, tt.bad)
		} else if diff := cmp.Diff(tt.want, s.Script); !bad && diff != "" {
			t.Errorf("Read(iscript=%s) (-want +got):\n%s", tt.value, diff)
		}
		if len(s.Pass) > 0 {
			t.Errorf("Read(iscript=%s) passes %q on", tt.value, s.Pass)
		}
	}
}

package replicate

import (
	"testing"
	"time"

	"github.com/inetboot/inetboot/imagetool/store"
)

func TestNewer(t *testing.T) {
	second := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration, size int64) store.Info { return store.Info{Time: second.Add(d), Size: size} }
	for _, tt := range []struct {
		name string
		a, b store.Info
		want bool
	}{
		{"a second later", at(time.Second, 5), at(0, 5), true},
		{"a second before", at(0, 5), at(time.Second, 5), false},
		{"the copy's server tells whole seconds", at(900*time.Millisecond, 5), at(0, 5), false},
		{"another one in the same second", at(900*time.Millisecond, 5), at(0, 6), true},
		{"nobody knows", store.Info{Size: 5}, at(0, 6), false},
	} {
		if got := newer(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: newer() = %v; want %v", tt.name, got, tt.want)
		}
	}
}

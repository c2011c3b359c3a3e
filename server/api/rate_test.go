package api

import (
	"strconv"
	"testing"
	"time"
)

// Questions of machines come from a hall that is switched on at once.
func TestRateTimes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, times := range []int{0, 1, 10} {
		r, taken := rate{times: times}, 0
		for i := range 20 * overall {
			end, ok := r.begin(strconv.Itoa(i%addresses), now)
			if ok {
				taken++
				end()
			}
		}
		if want := overall * max(times, 1); taken != want {
			t.Errorf("%d times: %d are taken at once; want %d", times, taken, want)
		}
		if _, ok := r.begin("one more", now.Add(time.Second)); !ok {
			t.Errorf("%d times: a second later none is taken", times)
		}
	}
}

package command

import (
	"testing"
	"time"
)

func TestPeriod(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"}, {10 * time.Second, "10s"}, {time.Minute, "1m"}, {90 * time.Second, "1m30s"}, {time.Hour, "1h"}, {10 * time.Hour, "10h"},
		{90 * time.Minute, "1h30m"}, {time.Hour + time.Second, "1h0m1s"}, {24 * time.Hour, "1 day"}, {7 * 24 * time.Hour, "7 days"}, {36 * time.Hour, "36h"},
	} {
		if got := period(tt.d); got != tt.want {
			t.Errorf("period(%v) = %q; want %q", tt.d, got, tt.want)
		}
	}
}

package command

import (
	"fmt"
	"strings"
	"time"
)

// number writes how many there are of a thing whose plural ends in s.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// period writes how long something lasts, without the units that are zero.
func period(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return number(int(d/day), "day")
	}
	text := strings.TrimSuffix(d.String(), "m0s")
	if text != d.String() {
		text += "m"
	}
	if hours, ok := strings.CutSuffix(text, "h0m"); ok {
		text = hours + "h"
	}
	return text
}

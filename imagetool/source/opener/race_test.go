//go:build race

package opener_test

// underRace tells whether the race detector makes everything slow.
const underRace = true

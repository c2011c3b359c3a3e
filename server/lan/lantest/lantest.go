// Package lantest runs services of the LAN in tests.
package lantest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/inetboot/inetboot/server/lan"
)

// Run opens a service and runs it until stop is called, which happens at the
// end of the test anyway. That it ends without an error is part of the test.
func Run(t testing.TB, s lan.Service) (stop func()) {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return RunOpen(t, s)
}

// RunOpen is [Run] of a service that is open.
func RunOpen(t testing.TB, s lan.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Errorf("%s ended with %v", s.Name(), err)
		}
	})
	t.Cleanup(stop)
	return stop
}

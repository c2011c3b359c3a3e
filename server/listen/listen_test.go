package listen

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestLimit(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 2)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("the second connection was accepted while the first one was open; want it to wait")
	case <-time.After(50 * time.Millisecond):
	}
	if _, ok := first.(io.ReaderFrom); !ok {
		t.Errorf("connections are %T, which has no ReadFrom: files cannot go by sendfile", first)
	}
	first.Close()
	first.Close() // must not free a second place
	second := <-accepted
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of a closed listener that is full = %v; want net.ErrClosed", err)
	}
	second.Close()
}

func TestListenRefuses(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		limit int
	}{{"127.0.0.1:0", 0}, {"127.0.0.1:99999", 1}, {"203.0.113.1:0", 1}} {
		if ln, err := Listen(t.Context(), tt.addr, tt.limit); err == nil {
			ln.Close()
			t.Errorf("Listen(%q, %d) succeeded", tt.addr, tt.limit)
		}
	}
}

package lru_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source/lru"
)

func TestCache(t *testing.T) {
	c := lru.New(2)
	loads := map[int64]int{}
	get := func(key int64) {
		t.Helper()
		b, err := c.Get(key, func() ([]byte, error) { loads[key]++; return []byte{byte(key)}, nil })
		if err != nil || b[0] != byte(key) {
			t.Fatalf("Get(%d) = %v, %v", key, b, err)
		}
	}
	for _, key := range []int64{1, 2, 1, 3, 1, 2} { // 3 takes the place of 2, 2 that of 3
		get(key)
	}
	for key, want := range map[int64]int{1: 1, 2: 2, 3: 1} {
		if loads[key] != want {
			t.Errorf("%d was loaded %d times; want %d", key, loads[key], want)
		}
	}
}

func TestErrorsAreNotKept(t *testing.T) {
	c := lru.New(2)
	bad := errors.New("bad")
	if _, err := c.Get(1, func() ([]byte, error) { return nil, bad }); !errors.Is(err, bad) {
		t.Errorf("Get() = %v; want the error", err)
	}
	if b, err := c.Get(1, func() ([]byte, error) { return []byte("x"), nil }); err != nil || string(b) != "x" {
		t.Errorf("Get() after an error = %q, %v; want x", b, err)
	}
}

func TestOnce(t *testing.T) {
	c := lru.New(1)
	loads := 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, _ = c.Get(7, func() ([]byte, error) { loads++; return nil, nil })
		})
	}
	wg.Wait()
	if loads != 1 {
		t.Errorf("loaded %d times; want 1", loads)
	}
}

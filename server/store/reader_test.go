package store_test

import (
	"context"

	"github.com/inetboot/inetboot/server/store"
)

// reader makes a store one that catalogs are read from.
type reader struct{ d *store.Dir }

func (r reader) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, err := r.d.Read(path, limit)
	if err != nil {
		return nil, err
	}
	return data, accept(data)
}

"""The operations that cost nothing: views, copies, selection, comparison, sorting, making tensors."""

FREE = frozenset(
    """
    view reshape _reshape_alias _unsafe_view view_as reshape_as flatten unflatten permute transpose t numpy_T mT mH adjoint
    squeeze squeeze_ unsqueeze unsqueeze_ expand expand_as broadcast_to broadcast_tensors movedim moveaxis swapaxes swapdims
    select slice narrow diagonal diag diag_embed as_strided as_strided_ split split_with_sizes chunk unsafe_chunk unsafe_split
    unbind tensor_split hsplit vsplit dsplit unfold_copy index index_select gather scatter scatter_ take take_along_dim cat
    concat concatenate stack hstack vstack dstack column_stack row_stack atleast_1d atleast_2d atleast_3d block_diag roll flip
    fliplr flipud rot90 repeat repeat_interleave tile pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d
    replication_pad2d reflection_pad3d replication_pad3d _pad_circular _pad_enum pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle unfold im2col upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d max_unpool2d clone contiguous copy_ to _to_copy
    _to_cpu type_as detach detach_ alias dropout dropout_ native_dropout alpha_dropout alpha_dropout_ feature_dropout
    feature_dropout_ feature_alpha_dropout identity zeros ones full zeros_like ones_like full_like empty empty_like
    empty_strided empty_permuted new_zeros new_ones new_full new_empty new_empty_strided new_tensor arange linspace logspace eye
    scalar_tensor tensor lift_fresh lift_fresh_copy lift size numel dim stride storage_offset Int Float Bool ScalarImplicit
    FloatImplicit IntImplicit item _local_scalar_dense fill_ fill zero_ masked_fill masked_fill_ masked_select masked_scatter
    where index_copy index_copy_ index_fill index_fill_ eq ne lt le gt ge not_equal less
    less_equal greater greater_equal eq_ ne_ __and__ __or__ __xor__ __iand__ __ior__ __lshift__ __rshift__ bitwise_left_shift
    bitwise_right_shift logical_and logical_or logical_not logical_xor logical_and_ logical_not_ bitwise_and bitwise_or
    bitwise_not bitwise_xor isnan isinf isfinite nan_to_num nan_to_num_ isin isclose allclose equal is_nonzero any all nonzero
    nonzero_numpy
    count_nonzero argwhere meshgrid tril triu tril_ triu_ tril_indices triu_indices floordiv
    searchsorted bucketize sort argsort topk msort kthvalue unique _unique2 unique_consecutive unique_dim bincount one_hot
    combinations cartesian_prod embedding rand randn randint randperm rand_like randn_like randint_like bernoulli bernoulli_
    normal normal_ uniform_ exponential_ multinomial set_ resize_ resize_as_ resolve_conj resolve_neg conj conj_physical
    _conj _neg_view real imag view_as_real view_as_complex hann_window hamming_window blackman_window kaiser_window
    fft_fftshift fft_ifftshift fft_fftfreq fft_rfftfreq requires_grad_ is_floating_point is_complex is_same_size
    _is_all_true _is_any_true _assert_async _functional_assert_async _assert_tensor_metadata _assert_scalar sym_constrain_range
    sym_constrain_range_for_size _nested_tensor_from_mask _pack_padded_sequence _pad_packed_sequence _shape_as_tensor
    ones_ cpu cuda float half double bfloat16 bool long int
    to_sparse _to_sparse to_sparse_csr _to_sparse_csr to_sparse_csc _to_sparse_csc to_sparse_bsr _to_sparse_bsr to_sparse_bsc
    _to_sparse_bsc to_dense _to_dense to_mkldnn to_mkldnn_backward values indices _values _indices crow_indices col_indices
    ccol_indices row_indices sparse_coo_tensor _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims
    _sparse_coo_tensor_with_dims_and_tensors sparse_compressed_tensor _sparse_compressed_tensor_unsafe sparse_csr_tensor
    _sparse_csr_tensor_unsafe sparse_csc_tensor _sparse_csc_tensor_unsafe sparse_bsr_tensor _sparse_bsr_tensor_unsafe
    sparse_bsc_tensor _sparse_bsc_tensor_unsafe sparse_mask _sparse_mask_projection is_coalesced _is_coalesced _nnz sparse_dim
    _sparse_dim dense_dim _dense_dim sparse_resize_ _convert_indices_from_csr_to_coo _convert_indices_from_coo_to_csr complex
    _has_same_storage_numel _nested_tensor_from_tensor_list _nested_view_from_buffer _nested_view_from_buffer_copy
    _nested_view_from_jagged _nested_get_values _nested_get_offsets _nested_get_lengths _nested_tensor_size
    _nested_tensor_strides _nested_tensor_storage_offsets nested_to_padded_tensor to_padded_tensor _nested_from_padded
    _nested_from_padded_tensor _nested_compute_contiguous_strides_offsets is_contiguous sym_size sym_stride sym_numel
    sym_storage_offset
    alias_copy as_strided_copy detach_copy diagonal_copy expand_copy narrow_copy permute_copy select_copy slice_copy split_copy
    split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unsqueeze_copy view_copy view_as_real_copy
    view_as_complex_copy _conj_copy _neg_view_copy _reshape_alias_copy values_copy indices_copy _values_copy _indices_copy
    crow_indices_copy col_indices_copy ccol_indices_copy row_indices_copy
    _nested_get_values_copy _nested_view_from_jagged_copy as_strided_scatter diagonal_scatter select_scatter slice_scatter
    """.split()
)
"""Names as torch has them, without ``aten::``. None does arithmetic of the model."""
